package agent

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
)

// identityFixture is an agent whose identity endpoint hands out tokens for resources.
func identityFixture(answer func(context.Context, provider.Request) (provider.Reply, error), tokenFor map[string]string, tokens ...string) *fixture {
	f := newFixture(answer, tokens...)
	cfg := *f.agent.parts.config()
	cfg.Identity = &config.IdentityEndpoint{TokenFor: tokenFor}
	f.make(&cfg, answer)
	return f
}

// grantByScope grants the token "token-a" for the scope "scope-a".
func grantByScope(_ context.Context, r provider.Request) (provider.Reply, error) {
	return granted(strings.Replace(r.Form.Get("scope"), "scope", "token", 1), time.Hour), nil
}

func TestTokenForResource(t *testing.T) {
	const graph, vault = "https://graph.example.com", "https://vault.example.com/"
	tests := map[string]struct {
		resource, clientID string
		token              string
		err                error
	}{
		"as configured":                {graph, "", "token-a", nil},
		"with a slash":                 {graph + "/", "", "token-a", nil},
		"without the slash":            {"https://vault.example.com", "", "token-b", nil},
		"with two slashes":             {graph + "//", "", "", ErrUnknownResource},
		"both ways":                    {"both", "", "token-a", nil},
		"both ways, the other":         {"both/", "", "token-b", nil},
		"in capitals":                  {"HTTPS://graph.example.com", "", "", ErrUnknownResource},
		"a scope":                      {graph + "/.default", "", "", ErrUnknownResource},
		"nothing":                      {"", "", "", ErrUnknownResource},
		"a slash":                      {"/", "", "", ErrUnknownResource},
		"its client":                   {graph, "id", "token-a", nil},
		"its client in capitals":       {graph, "ID", "token-a", nil},
		"another client":               {graph, "id2", "", ErrOtherClient},
		"an unknown one of a client's": {"https://none.example.com", "id", "", ErrUnknownResource},
	}
	synctest.Test(t, func(t *testing.T) {
		f := identityFixture(grantByScope, map[string]string{graph: "a", vault: "b", "both": "a", "both/": "b"}, "a", "b")
		defer f.run(t.Context())()
		pass(time.Minute)
		for name, tc := range tests {
			got, err := f.agent.TokenFor(tc.resource, tc.clientID)
			if !errors.Is(err, tc.err) || got.AccessToken.Reveal() != tc.token {
				t.Errorf("%s: got %q, %v, want %q, %v", name, got.AccessToken.Reveal(), err, tc.token, tc.err)
			}
		}
	})
}

// TestTokenForSaysFirstWhatWaitingDoesNotMend: whoever asks for the wrong client is told so at
// once, though there is no token yet.
func TestTokenForSaysFirstWhatWaitingDoesNotMend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := identityFixture(func(context.Context, provider.Request) (provider.Reply, error) {
			return refusal(http.StatusServiceUnavailable, "busy", "30"), nil
		}, map[string]string{"r": "a"}, "a")
		defer f.run(t.Context())()
		pass(time.Second)
		var notYet *NotYetError
		if _, err := f.agent.TokenFor("r", "id"); !errors.As(err, &notYet) || notYet.RetryIn < 29*time.Second || notYet.RetryIn > 33*time.Second {
			t.Errorf("while there is no token: %v", err)
		}
		if _, err := f.agent.TokenFor("r", "other"); !errors.Is(err, ErrOtherClient) {
			t.Errorf("another client: %v", err)
		}
	})
}

func TestReloadChangesWhatServesAResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(grantByScope, "a", "b")
		defer f.run(t.Context())()
		pass(time.Minute)
		if _, err := f.agent.TokenFor("r", ""); !errors.Is(err, ErrUnknownResource) {
			t.Errorf("without an identity endpoint: %v", err)
		}
		for _, name := range []string{"a", "b"} {
			cfg := *f.agent.parts.config()
			cfg.Identity = &config.IdentityEndpoint{TokenFor: map[string]string{"r": name}}
			if err := f.agent.Reload(t.Context(), &cfg); err != nil {
				t.Fatal(err)
			}
			if got, err := f.agent.TokenFor("r", ""); err != nil || got.Name != name {
				t.Errorf("after the reload: %q, %v, want %q", got.Name, err, name)
			}
		}
	})
}
