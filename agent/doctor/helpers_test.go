package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/sink"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// openTemp is a directory that every user can reach.
func openTemp(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "doctor")
	must(tb, err)
	tb.Cleanup(func() { os.RemoveAll(dir) })
	must(tb, os.Chmod(dir, 0o755))
	return dir
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("being other users, and mounting, needs root")
	}
}

// newExam is an examination of a configuration, at a host where nobody has anything to say.
func newExam(cfg config.Config) *exam {
	return &exam{
		Options: Options{
			Config: &cfg,
			Status: func(context.Context) (status.Status, error) {
				return status.Status{}, errors.New("no running agent answers")
			},
			Check: func(context.Context, string, config.Credential) (provider.Credential, []provider.Problem, error) {
				return provider.Credential{}, nil, nil
			},
			Providers: func(context.Context) []provider.Info { return nil },
		},
		proc: "/proc", uid: os.Geteuid(), now: time.Now(),
	}
}

// sinkAt is a raw sink, private unless changed.
func sinkAt(path string) config.Sink {
	return config.Sink{Type: config.SinkFile, Format: sink.FormatRaw, Token: "graph", Path: path, Mode: 0o600}
}

// want is a finding to expect: its level, and what it says in its three parts.
type want struct {
	level          Level
	what, why, fix string
}

// check expects just the findings wanted, in their order.
func check(t *testing.T, found []Finding, wanted ...want) {
	t.Helper()
	if len(found) != len(wanted) {
		t.Fatalf("%d findings, want %d:\n%+v", len(found), len(wanted), found)
	}
	for i, w := range wanted {
		f := found[i]
		if f.Level != w.level || !strings.Contains(f.What, w.what) || !strings.Contains(f.Why, w.why) || !strings.Contains(f.Fix, w.fix) {
			t.Errorf("finding\n%+v\nis not like\n%+v", f, w)
		}
		if f.Level == Problem && f.Fix == "" {
			t.Errorf("a problem without a fix: %+v", f)
		}
		for _, text := range append(f.About, f.What, f.Why, f.Fix) {
			if strings.ContainsAny(text, "\n\r") {
				t.Errorf("%q is more than a line", text)
			}
		}
	}
}

// write makes a file of a mode, with the directories above it.
func write(tb testing.TB, path, content string, mode os.FileMode) string {
	tb.Helper()
	must(tb, os.MkdirAll(filepath.Dir(path), 0o755))
	must(tb, os.WriteFile(path, []byte(content), 0o600))
	must(tb, os.Chmod(path, mode))
	return path
}

func configOf(sinks ...config.Sink) config.Config { return config.Config{Sinks: sinks} }
