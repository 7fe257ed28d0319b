package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
)

func TestEndOfCredential(t *testing.T) {
	e := newExam(config.Config{})
	const day = 24 * time.Hour
	for name, tc := range map[string]struct {
		begins, ends time.Duration
		want         []want
	}{
		"far":              {-day, 400 * day, nil},
		"unknown":          {0, 0, nil},
		"next month":       {-300 * day, 20*day + time.Hour, []want{{Warning, "ends in 20 days, at ", "from then on", "write a new one"}}},
		"next week":        {-300 * day, 5*day + time.Hour, []want{{Warning, "ends in 5 days", "", ""}}},
		"today":            {-300 * day, 3*time.Hour + time.Minute, []want{{Problem, "ends in 3h1m0s, at ", "", ""}}},
		"over":             {-300 * day, -time.Hour, []want{{Problem, "ended at ", "the server refuses it", "write a new one"}}},
		"renewed each day": {-12 * time.Hour, 12 * time.Hour, nil},
		"not yet":          {time.Hour, 300 * day, []want{{Warning, "is not good before", "until then", "clock"}}},
	} {
		t.Run(name, func(t *testing.T) {
			said := provider.Credential{}
			if tc.ends != 0 {
				said.NotBefore, said.NotAfter = e.now.Add(tc.begins), e.now.Add(tc.ends)
			}
			check(t, e.ending(said), tc.want...)
		})
	}
}

// TestCredentials asks for both credentials of a client, and passes on what the provider says.
func TestCredentials(t *testing.T) {
	e := newExam(config.Config{Clients: []config.Client{{
		Name: "app", Credential: config.Credential{Provider: "certcred"}, FallbackCredential: &config.Credential{Provider: "secretcred"},
	}}})
	e.Check = func(_ context.Context, client string, c config.Credential) (provider.Credential, []provider.Problem, error) {
		if client != "app" {
			t.Errorf("asked for client %q", client)
		}
		if c.Provider == "certcred" {
			return provider.Credential{}, []provider.Problem{{Key: "key_id", Message: "is not a string"}, {Message: "is not sound"}}, nil
		}
		return provider.Credential{NotAfter: e.now.Add(-time.Hour)}, nil, errors.New(`reading secret_file "/x": permission denied; let the agent's user (uid 7) read it`)
	}
	found := e.credentials(t.Context())
	check(t, found,
		want{Problem, "key_id: is not a string", "does not start", "keys under config"}, want{Problem, "is not sound", "", ""},
		want{Problem, `reading secret_file "/x": permission denied`, "no token", "let the agent's user (uid 7) read it"}, want{Problem, "the credential ended at", "", ""})
	if got := []string{found[0].About[0], found[2].About[0]}; !slices.Equal(got, []string{`client "app"`, `client "app", fallback_credential`}) {
		t.Errorf("they are about %q", got)
	}
}

func TestCredentialFiles(t *testing.T) {
	dir := openTemp(t)
	certificate := write(t, filepath.Join(dir, "app.pem"), "x", 0o644)
	key := write(t, filepath.Join(dir, "app.key"), "x", 0o600)
	pair := config.Credential{Provider: "certcred", Config: []byte(`{"certificate_file":"` + certificate + `","private_key_file":"` + key + `"}`)}
	one := config.Credential{Provider: "certcred", Config: []byte(`{"certificate_file":"` + certificate + `"}`)}
	look := func(c config.Credential) []Finding {
		e := newExam(config.Config{Clients: []config.Client{{Name: "app", Credential: c}}})
		e.Check = func(context.Context, string, config.Credential) (provider.Credential, []provider.Problem, error) {
			return provider.Credential{Files: []string{certificate, key, dir + "/gone"}}, nil, nil
		}
		return e.credentials(t.Context())
	}
	check(t, look(pair))
	check(t, look(one), want{Problem, "everybody on this host may read " + quote(certificate), "get tokens", "chmod o-rwx"})
	must(t, os.Chmod(key, 0o604))
	check(t, look(pair), want{Problem, "everybody on this host may read " + quote(key), "", ""})
	must(t, os.Chmod(key, 0o620))
	check(t, look(pair), want{Problem, "others may write to " + quote(key), "put a credential of theirs", "chmod go-w"})
	must(t, os.Chmod(key, 0o600))
	must(t, os.Chmod(dir, 0o777))
	above := want{Warning, "which is above", "", "chmod go-w"}
	check(t, look(pair), above, above)
}

func TestSecretFiles(t *testing.T) {
	for keys, want := range map[string][]string{
		`{"secret_file":"/s"}`: {"/s"}, `{"assertion_file":"/a"}`: {"/a"},
		`{"certificate_file":"/c","password_file":"/p"}`:    {"/p", "/c"},
		`{"certificate_file":"/c","private_key_file":"/k"}`: {"/k"},
		`{"secret_env":"X"}`:                                nil, `{"secret_file":7}`: nil, `{"secret_file":"relative"}`: nil, `[]`: nil, ``: nil,
	} {
		if got := secretFiles(config.Credential{Config: []byte(keys)}); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", keys, got, want)
		}
	}
}

func TestPlugins(t *testing.T) {
	e := newExam(config.Config{
		Clients: []config.Client{{Credential: config.Credential{Provider: "used"}, FallbackCredential: &config.Credential{Provider: "second"}}},
		Plugins: config.Plugins{SHA256: map[string]string{"fine": "00", "gone": "00"}},
	})
	const unsafe = `refusing provider in "/x": others may write to it; run: chmod go-w /x`
	e.Providers = func(context.Context) []provider.Info {
		return []provider.Info{{Name: "fine"}, {Name: "used", Error: unsafe}, {Name: "second", Error: unsafe}, {Name: "unused", Error: unsafe}}
	}
	check(t, e.plugins(t.Context()),
		want{Note, "there is no such provider", "protects nothing", "credagent plugins"},
		want{Warning, `refusing provider in "/x": others may write to it`, "does not run", "run: chmod go-w /x"})
}
