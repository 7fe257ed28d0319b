//go:build unix

package assertion

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/plugins"
)

// running is a source that runs a shell script.
func running(t *testing.T, h host, script, timeout string) Source {
	t.Helper()
	return opened(t, h, fmt.Sprintf(`{"source":{"command":{"run":["/bin/sh","-c",%q],"timeout":%q}}}`, script, timeout))
}

func TestCommand(t *testing.T) {
	want := token(time.Hour)
	h := variables(map[string]string{"PATH": os.Getenv("PATH"), "HOME": "/root", "OTHER": "canary-other"})
	jwt, err := running(t, h, "echo canary-noise >&2; echo "+want, "10s").JWT(t.Context())
	if err != nil || jwt.Value.Reveal() != want || !jwt.NotAfter.IsZero() {
		t.Errorf("%+v, %v", jwt, err)
	}
	seen, err := running(t, h, `echo "$(pwd) $HOME $OTHER"; cat`, "10s").Token(t.Context())
	if err != nil || seen.Reveal() != "/ /root" {
		t.Errorf("it sees %q, %v", seen.Reveal(), err)
	}
}

func TestCommandFails(t *testing.T) {
	h := variables(map[string]string{"PATH": os.Getenv("PATH")})
	for name, tc := range map[string]struct {
		script, want string
		passes       bool
	}{
		"a status":   {"echo canary-out; echo canary-err >&2; exit 3", "it exited with status 3; run it by hand", true},
		"a signal":   {"kill -9 $$", "a signal ended it", true},
		"nothing":    {"true", "an empty token", false},
		"no token":   {"echo canary-opaque", "not a signed JWT", false},
		"an old one": {"echo " + token(-time.Hour), "the program prints an old one", false},
		"a page":     {"echo '<html>canary-page'", "a web page", false},
		"no end":     {"while :; do echo canary-canary-canary-canary; done", "more than 1 MiB", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := fails(t, running(t, h, tc.script, "30s"), tc.want)
			var unavailable *plugins.Unavailable
			if errors.As(err, &unavailable) != tc.passes {
				t.Errorf("error %q: it may pass", err)
			}
		})
	}
	fails(t, opened(t, h, `{"source":{"command":{"run":["/no/such/program"]}}}`), `asking source command: starting "/no/such/program"`)
}

// A program that hangs is ended with all that it started, and holds nobody up.
func TestCommandHangs(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	h := variables(map[string]string{"PATH": os.Getenv("PATH")})
	begun := time.Now()
	err := fails(t, running(t, h, "(sleep 3; touch "+mark+") & sleep 1000", "100ms"), "did not end in time: it may take 100ms")
	var unavailable *plugins.Unavailable
	if !errors.As(err, &unavailable) || time.Since(begun) > 2500*time.Millisecond {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := running(t, h, "sleep 1000", "30s").JWT(ctx); err == nil || !strings.Contains(err.Error(), "in time") {
		t.Errorf("error %v", err)
	}
	<-time.After(time.Until(begun.Add(3500 * time.Millisecond)))
	if _, err := os.Stat(mark); err == nil {
		t.Error("what the program started went on")
	}
}
