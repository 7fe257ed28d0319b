package doctor

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/status"
)

// healthy is a configuration for which everything is as it should be.
func healthy(t *testing.T) config.Config {
	t.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	dir := openTemp(t)
	secret := write(t, filepath.Join(dir, "secret"), "x", 0o600)
	return config.Config{
		Source: write(t, filepath.Join(dir, "credagent.yaml"), "", 0o644),
		Listen: "127.0.0.1:0",
		Clients: []config.Client{{
			Name: "app", ClientID: "app", TokenURL: server.URL + "/token", RequestTimeout: 10 * time.Second,
			Credential: config.Credential{Provider: "secretcred", Config: []byte(`{"secret_file":"` + secret + `"}`)},
		}},
		Tokens: []config.Token{{Name: "graph", Client: "app"}},
		Sinks:  []config.Sink{sinkAt(filepath.Join(dir, "graph.token"))},
	}
}

func TestHealthyHost(t *testing.T) {
	e := newExam(healthy(t))
	for _, f := range Examine(t.Context(), e.Options) {
		if f.Level != Note {
			t.Errorf("%+v", f)
		}
	}
	if entries, err := filepath.Glob(filepath.Dir(e.Config.Source) + "/.*"); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %q, %v", entries, err)
	}
}

// TestEverythingAtOnce breaks one thing for each check, and expects each to be found, once.
func TestEverythingAtOnce(t *testing.T) {
	cfg := healthy(t)
	dir := filepath.Dir(cfg.Source)
	must(t, os.Chmod(filepath.Join(dir, "secret"), 0o644))
	must(t, os.Chmod(cfg.Source, 0o666))
	cfg.Listen = "0.0.0.0:0"
	cfg.State = &config.State{Dir: filepath.Join(dir, "no", "state"), KeyFile: filepath.Join(dir, "no-key")}
	cfg.Socket = &config.Socket{Path: filepath.Join(dir, "no-run", "socket"), Mode: 0o660, Group: "no-such-group"}
	cfg.Clients[0].TokenURL = "http://127.0.0.1:1/token"
	cfg.Plugins.SHA256 = map[string]string{"vaultcred": "00"}
	cfg.Sinks[0].Group = "no-such-group"
	cfg.Sinks = append(cfg.Sinks, sinkAt(filepath.Join(dir, "no-run", "one")), sinkAt(filepath.Join(dir, "no-run", "two")))
	found := Examine(t.Context(), newExam(cfg).Options)
	for _, part := range []string{
		"others may write to the configuration", "everybody on this host may read", "0.0.0.0:0 can be reached", "reading the state key",
		"making state directory", `group "no-such-group" is not known`, "no-run\" is missing", "127.0.0.1:1 could not be reached",
		"no such provider", "a file like it cannot be written beside it: looking up group",
	} {
		n := 0
		for _, f := range found {
			if strings.Contains(f.What, part) {
				n++
			}
		}
		if n == 0 {
			t.Errorf("nothing says %q", part)
		}
	}
	levels := []Level{Problem, Warning, Note}
	if !slices.IsSortedFunc(found, func(a, b Finding) int { return slices.Index(levels, a.Level) - slices.Index(levels, b.Level) }) {
		t.Errorf("the worst do not come first: %+v", found)
	}
	missing := slices.IndexFunc(found, func(f Finding) bool { return strings.Contains(f.What, "is missing") })
	if about := found[missing].About; len(about) != 3 {
		t.Errorf("the missing directory is about %q, want two sinks and the socket in one finding", about)
	}
}

func TestMerge(t *testing.T) {
	one := Finding{Level: Warning, About: []string{"a"}, What: "x", Why: "y", Fix: "z"}
	got := merge([]Finding{
		one, {Level: Note, What: "n"}, {Level: Warning, About: []string{"b"}, What: "x", Why: "y", Fix: "z"}, one,
		{Level: Problem, About: []string{"b"}, What: "x", Why: "y", Fix: "z"}, {Level: Warning, What: "x", Why: "other", Fix: "z"},
	})
	want := []Finding{
		{Level: Problem, About: []string{"b"}, What: "x", Why: "y", Fix: "z"},
		{Level: Warning, About: []string{"a", "b"}, What: "x", Why: "y", Fix: "z"},
		{Level: Warning, What: "x", Why: "other", Fix: "z"},
		{Level: Note, What: "n"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("merged\n%+v, want\n%+v", got, want)
	}
	if !slices.Equal(one.About, []string{"a"}) {
		t.Error("merging changed what it was given")
	}
}

func TestAgentThatRuns(t *testing.T) {
	well := status.Status{Source: "here", Ready: true, Tokens: []status.Token{{Name: "graph", Valid: true, AcquiredAt: status.Instant(time.Unix(1, 0)), Expiry: status.Instant(time.Unix(5000, 0))}}}
	for name, tc := range map[string]struct {
		change func(*status.Status)
		want   []want
	}{
		"well":            {func(*status.Status) {}, nil},
		"of another file": {func(s *status.Status) { s.Source = "there" }, []want{{Note, "another configuration, there", "about here", ""}}},
		"not reloaded":    {func(s *status.Status) { s.Reload = &status.Reload{Error: "x.yaml:1: bad"} }, []want{{Problem, "was not reloaded, the running one stays: x.yaml:1: bad", "will not start", "reload"}}},
		"reloaded":        {func(s *status.Status) { s.Reload = &status.Reload{Successful: true} }, nil},
		"a token that fails": {func(s *status.Status) { s.Tokens[0].LastError, s.Tokens[0].Advice = "invalid_client (401)", "look" },
			[]want{{Warning, "not refreshed yet: invalid_client (401)", "not replaced", "look"}}},
		"a refused token": {func(s *status.Status) {
			s.Tokens[0].LastError, s.Tokens[0].LastOutcome, s.Tokens[0].Advice = "invalid_client (401)", "credential", "renew the secret"
		}, []want{{Problem, "refused by the server: invalid_client (401)", "not replaced", "renew the secret"}}},
		"a dead token": {func(s *status.Status) {
			s.Ready, s.NotReady, s.Now = false, []string{`token "graph" is not valid`}, time.Unix(2000, 0)
			s.Tokens[0] = status.Token{Name: "graph", AcquiredAt: status.Instant(time.Unix(1, 0)), Expiry: status.Instant(time.Unix(800, 0)), LastError: "no route to host", LastOutcome: "transient", ConsecutiveFailures: 9}
			s.Sinks = []status.Sink{{Path: "/run/t", Tokens: []string{"graph"}, Holds: true}}
		}, []want{{Problem, "token requests fail: no route to host", "the token expired 20m 0s ago, and there is no other; no valid token in /run/t", "check the server"}}},
		"a token never there": {func(s *status.Status) {
			s.Tokens[0] = status.Token{Name: "graph", LastError: "invalid_scope (400)", LastOutcome: "configuration", ConsecutiveFailures: 1}
		}, []want{{Problem, "refused by the server: invalid_scope (400)", "no token yet", "check"}}},
		"a throttled token": {func(s *status.Status) {
			s.Tokens[0].LastError, s.Tokens[0].LastOutcome = "HTTP 429", "throttled"
		}, []want{{Warning, "held back by the server: HTTP 429", "", "wait"}}},
		"a sink that cannot be written": {func(s *status.Status) { s.Sinks = []status.Sink{{Path: "/run/t", LastError: "no space left"}} },
			[]want{{Problem, "cannot be written: no space left", "old token", "check the directory's rights"}}},
		"not ready": {func(s *status.Status) { s.Ready, s.NotReady = false, []string{`something is odd`} },
			[]want{{Problem, "is not ready: something is odd", "", "credagent status"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := well
			s.Tokens = slices.Clone(well.Tokens)
			tc.change(&s)
			e := newExam(config.Config{Source: "here"})
			e.running = &s
			check(t, e.agent(t.Context()), tc.want...)
		})
	}
}

// TestAgentOfAnotherConfiguration: what that agent lacks is not a problem of this configuration, and a
// file is the same however its path is written.
func TestAgentOfAnotherConfiguration(t *testing.T) {
	dir := openTemp(t)
	t.Chdir(dir)
	file := write(t, filepath.Join(dir, "c.yaml"), "{}", 0o600)
	other := write(t, filepath.Join(dir, "other.yaml"), "{}", 0o600)
	must(t, os.Symlink(file, filepath.Join(dir, "link.yaml")))
	must(t, os.Symlink(dir, filepath.Join(dir, "away")))
	must(t, os.Link(file, filepath.Join(dir, "hard.yaml")))
	broken := []status.Token{{Name: "graph", Client: "app", LastError: "invalid_client (401)", LastOutcome: "credential", ConsecutiveFailures: 4}}
	foreign := func(source string) []want { return []want{{Note, "another configuration, " + source, "about", ""}} }
	refused := []want{{Problem, "refused by the server: invalid_client (401)", "no token yet", "check"}}
	for _, tc := range []struct {
		running, here string
		want          []want
	}{
		{file, file, refused},
		{file, "c.yaml", refused},
		{"c.yaml", file, refused},
		{file, "./away/./c.yaml", refused},
		{file, filepath.Join(dir, "link.yaml"), refused},
		{filepath.Join(dir, "away", "c.yaml"), file, refused},
		{file, filepath.Join(dir, "hard.yaml"), refused},
		{"environment", "environment", refused},
		{other, file, foreign(other)},
		{"environment", file, foreign("environment")},
		{file, "environment", foreign(file)},
		{filepath.Join(dir, "gone.yaml"), file, foreign(filepath.Join(dir, "gone.yaml"))},
	} {
		t.Run(tc.running+" "+tc.here, func(t *testing.T) {
			e := newExam(config.Config{Source: tc.here})
			e.running = &status.Status{Source: tc.running, Tokens: broken, Reload: &status.Reload{Successful: true}}
			check(t, e.agent(t.Context()), tc.want...)
		})
	}
}

func TestNoAgentRuns(t *testing.T) {
	e := newExam(config.Config{})
	_, e.silence = e.Status(context.Background())
	check(t, e.agent(t.Context()), want{Note, "no running agent answers", "", ""})
}

func TestAgentUser(t *testing.T) {
	needRoot(t)
	dir := openTemp(t)
	cfg := config.Config{Sinks: []config.Sink{sinkAt(filepath.Join(dir, "one", "token")), sinkAt(filepath.Join(dir, "two", "token"))}}
	for _, name := range []string{"one", "two", "state"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	e := newExam(cfg)
	if uid, _ := e.agentUser(); uid != 0 {
		t.Errorf("where all is root's, the agent's user is %d", uid)
	}
	must(t, os.Chown(filepath.Join(dir, "one"), 4001, 4001))
	if uid, _ := e.agentUser(); uid != 4001 {
		t.Errorf("where one directory is 4001's, the agent's user is %d", uid)
	}
	e.uid, e.judged = e.agentUser()
	check(t, e.identity(t.Context()), want{Note, "judged for the user #4001, whose the directories are", "", ""}, want{Note, "run as root", "not seen", "setpriv --reuid #4001"})
	cfg.State = &config.State{Dir: filepath.Join(dir, "state")}
	must(t, os.Chown(cfg.State.Dir, 4002, 4002))
	if uid, _ := newExam(cfg).agentUser(); uid != 0 {
		t.Errorf("where directories are two users', the agent's user is %d", uid)
	}
}
