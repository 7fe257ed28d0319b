package demo

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/devserver"
)

func TestCalm(t *testing.T) {
	tests := map[string]struct {
		token status.Token
		gate  status.Gate
		want  bool
	}{
		"planned later":        {status.Token{RefreshAt: in(3)}, status.Gate{}, true},
		"planned soon":         {status.Token{RefreshAt: in(0.9)}, status.Gate{}, false},
		"overdue":              {status.Token{RefreshAt: in(-1)}, status.Gate{}, false},
		"no plan":              {status.Token{}, status.Gate{}, false},
		"overdue, throttled":   {status.Token{RefreshAt: in(-1)}, status.Gate{BlockedUntil: in(4)}, true},
		"overdue, gate failed": {status.Token{RefreshAt: in(-1)}, status.Gate{RetryAt: in(4)}, true},
		"throttling ends soon": {status.Token{RefreshAt: in(-1)}, status.Gate{BlockedUntil: in(0.5)}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.token.Client = "a"
			s := status.Status{
				Now:     noon,
				Tokens:  []status.Token{test.token, {Client: "b", RefreshAt: in(-1)}},
				Clients: []status.Client{{Name: "b"}, {Name: "a", Gate: test.gate}},
			}
			if got := calm(s, "a"); got != test.want {
				t.Errorf("calm: %v, want %v", got, test.want)
			}
		})
	}
}

func TestCaughtUp(t *testing.T) {
	sink := status.Sink{Tokens: []string{"graph", "reports"}, Holds: true}
	stale := status.Sink{Tokens: []string{"graph"}}
	foreign := status.Sink{Tokens: []string{"reports"}}
	tests := map[string]struct {
		acquired *time.Time
		sinks    []status.Sink
		want     bool
	}{
		"new and in its files":    {in(1), []status.Sink{sink, foreign}, true},
		"as old as the request":   {in(0), []status.Sink{sink}, true},
		"older than the request":  {in(-1), []status.Sink{sink}, false},
		"none":                    {nil, []status.Sink{sink}, false},
		"new, a file not written": {in(1), []status.Sink{sink, stale}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := status.Status{
				Tokens: []status.Token{{Name: "reports", Client: "b"}, {Name: "graph", Client: "a", AcquiredAt: test.acquired}},
				Sinks:  test.sinks,
			}
			if got := caughtUp(s, "a", noon); got != test.want {
				t.Errorf("caughtUp: %v, want %v", got, test.want)
			}
		})
	}
}

func TestPlayStopsAtAnError(t *testing.T) {
	broken := errors.New("broken")
	var played []string
	does := func(name string, err error) step {
		return func(context.Context) error {
			played = append(played, name)
			return err
		}
	}
	err := play(t.Context(), []step{does("one", nil), does("two", broken), does("three", nil)})
	if !errors.Is(err, broken) || !slices.Equal(played, []string{"one", "two"}) {
		t.Errorf("played %q, %v", played, err)
	}
}

// quiet is a stage on which no request ever arrives.
func quiet(t *testing.T, length time.Duration) *stage {
	t.Helper()
	server, err := devserver.New(devserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &stage{length: length, server: server, world: &world{}, show: newShow(&bytes.Buffer{}, nil)}
}

func TestPerformEndsAfterTheOvertime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := quiet(t, Shortest)
		if err := s.perform(t.Context()); err != nil {
			t.Errorf("perform: %v, want none: the verdict tells", err)
		}
		if took := time.Since(start); took != Shortest+overtime {
			t.Errorf("it took %v, want %v", took, Shortest+overtime)
		}
	})
}

func TestPerformEndsWithAnError(t *testing.T) {
	s := quiet(t, time.Hour)
	if err := s.server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.perform(t.Context()); err == nil {
		t.Error("perform: no error, although the server has gone")
	}
}

func TestConfigurationHoldsInAnyDirectory(t *testing.T) {
	for _, dir := range []string{"/tmp/x", `/tmp/a "b" c`, "/tmp/$HOME/${x}", "/tmp/a: {b}, #c", "/tmp/tëmp\\<&>"} {
		t.Run(dir, func(t *testing.T) {
			w := &world{dir: dir}
			cfg, err := config.Parse("demo.yaml", []byte(w.configuration("http://127.0.0.1:4711/token")), func(string) (string, bool) { return "", false })
			if err != nil {
				t.Fatal(err)
			}
			if got, want := cfg.Sinks[0].Path, dir+"/"+rawSink; got != want {
				t.Errorf("the first sink is %q, want %q", got, want)
			}
			if cfg.Listen != "" || len(cfg.Clients) != 2 || len(cfg.Tokens) != 2 || len(cfg.Sinks) != 4 {
				t.Errorf("listen %q, %d clients, %d tokens, %d sinks", cfg.Listen, len(cfg.Clients), len(cfg.Tokens), len(cfg.Sinks))
			}
		})
	}
}
