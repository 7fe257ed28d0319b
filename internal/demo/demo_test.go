package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/certcred"
	"github.com/credagent/credagent/plugins/secretcred"
	"github.com/credagent/credagent/testkit/leaktest"
)

// TestMain lets the agent start this test as its own providers.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "provider" {
		switch os.Args[2] {
		case certcred.Name:
			plugins.Serve(certcred.Provider{})
		case secretcred.Name:
			plugins.Serve(secretcred.Provider{})
		}
		os.Exit(0)
	}
	os.Exit(leaktest.Main(m))
}

// audience is who sees the demo. It reads the secrets in the directory whenever something is
// shown, calls a function when it has seen a text, and may then go away.
type audience struct {
	dir    string
	until  string
	then   func()
	leaves bool

	mu      sync.Mutex
	seen    bytes.Buffer
	left    bool
	secrets map[string]bool
}

func (a *audience) Write(data []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left {
		return 0, errors.New("nobody is there")
	}
	a.seen.Write(data)
	for _, name := range []string{rawSink, secretFile, certFile} {
		for _, path := range a.find(name) {
			if content, err := os.ReadFile(path); err == nil && len(content) > 0 {
				a.secrets[strings.TrimSpace(string(content))] = true
			}
		}
	}
	if a.until != "" && strings.Contains(a.seen.String(), a.until) {
		a.left = a.leaves
		a.then()
	}
	return len(data), nil
}

func (a *audience) find(name string) []string {
	paths, _ := filepath.Glob(filepath.Join(a.dir, "*", name))
	return paths
}

// watch runs a demo in a directory of its own, and checks what holds for every demo.
func (a *audience) watch(t *testing.T, ctx context.Context, o Options) (string, error) {
	t.Helper()
	a.dir, a.secrets = t.TempDir(), map[string]bool{}
	t.Setenv("TMPDIR", a.dir)
	o.Version, o.Out, o.Builtin = "test", a, []string{certcred.Name, secretcred.Name}
	err := Run(ctx, o)
	shown := a.seen.String()
	if len(a.secrets) < 3 {
		t.Errorf("%d secrets were found in the directory, want at least 3", len(a.secrets))
	}
	for value := range a.secrets {
		if strings.Contains(shown, value) {
			t.Error("a secret was shown")
		}
	}
	if left, err := os.ReadDir(a.dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return shown, err
}

func TestRunShowsEverything(t *testing.T) {
	if testing.Short() {
		t.Skip("takes fifteen seconds")
	}
	watching := &audience{}
	shown, err := watching.watch(t, t.Context(), Options{For: Shortest})
	if err != nil {
		t.Errorf("Run: %v", err)
	}
	_, summary, _ := strings.Cut(shown, "What was seen:")
	if got, want := strings.Count(summary, "  ok  "), len(judge(facts{})); got != want {
		t.Errorf("%d checks are ok, want %d:\n%s", got, want, summary)
	}
	for _, want := range []string{
		"certificate_file: ", "refresh_at: 35%", "token graph acquired (#1)", "token reports refreshed (#2)",
		"file graph.token holds #2", "the certificate in payments.pem was replaced",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q was not shown:\n%s", want, shown)
		}
	}
	if strings.Contains(shown, "\x1b") {
		t.Error("control sequences were shown without a screen")
	}
}

func TestRunEndsEarly(t *testing.T) {
	screen := func() *Screen {
		return &Screen{Color: true, Size: func() (int, int) { return 100, 30 }}
	}
	const event, picture = "holds #1, which", "0 bad, holds #1"
	tests := map[string]struct {
		moment string
		leaves bool
		screen *Screen
		want   []string
	}{
		"interrupted":            {event, false, nil, []string{"Stopped early", "ok      token requests", "-       outage survived"}},
		"interrupted on screen":  {picture, false, screen(), []string{hideCursor, "refresh in", showCursor, "Stopped early"}},
		"nobody reads it":        {event, true, nil, []string{event}},
		"nobody sees the screen": {picture, true, screen(), []string{hideCursor}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			watching := &audience{until: test.moment, then: stop, leaves: test.leaves}
			if test.leaves {
				watching.then = func() {}
			}
			shown, err := watching.watch(t, ctx, Options{For: time.Hour, Screen: test.screen})
			if err != nil {
				t.Errorf("Run: %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(shown, want) {
					t.Errorf("%q was not shown:\n%s", want, shown)
				}
			}
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Error("it did not end by itself")
			}
		})
	}
}

func TestRunSaysWhereItCannotWrite(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "absent"))
	err := Run(t.Context(), Options{For: Shortest})
	if err == nil || !strings.Contains(err.Error(), `absent": no such file or directory`) {
		t.Errorf("Run: %v, want where and why", err)
	}
}
