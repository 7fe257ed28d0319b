package delivery

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/token"
)

const canary = "canary-7d1c"

func command(log *bytes.Buffer, timeout time.Duration, words ...string) Command {
	return Command{
		Words: words, Timeout: timeout, Sink: "/run/credagent/graph.token", Tokens: []string{"graph", "mail"},
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func TestCommand(t *testing.T) {
	t.Setenv("CREDAGENT_CLIENT_SECRET", canary)
	for name, tc := range map[string]struct {
		words []string
		want  string // the error
	}{
		"well":      {[]string{"sh", "-c", "exit 0"}, ""},
		"failing":   {[]string{"sh", "-c", "exit 3"}, "it exited with status 3"},
		"slow":      {[]string{"sh", "-c", "cat /dev/zero >/dev/null"}, "the time limit was reached after 300ms"},
		"not there": {[]string{"no-such-program"}, `starting "no-such-program": executable file not found in $PATH`},
	} {
		t.Run(name, func(t *testing.T) {
			limit := time.Minute
			if name == "slow" {
				limit = 300 * time.Millisecond
			}
			err := command(&bytes.Buffer{}, limit, tc.words...).Run(t.Context())
			if got := text(err); got != tc.want {
				t.Errorf("error %q, want %q", got, tc.want)
			}
		})
	}
	if got := command(nil, 0, "/usr/bin/app", "--password", canary).String(); got != "command /usr/bin/app" {
		t.Errorf("it is called %q", got)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestEnvironmentOfACommand(t *testing.T) {
	for _, name := range inherited {
		t.Setenv(name, "")
		_ = os.Unsetenv(name)
	}
	t.Setenv("PATH", "/usr/bin:/bin")
	t.Setenv("LANG", "C")
	t.Setenv("AZURE_CLIENT_SECRET", canary)
	t.Setenv("CREDAGENT_CLIENT_ID", canary)
	t.Setenv("NOTIFY_SOCKET", canary)
	report := filepath.Join(t.TempDir(), "report")
	if err := command(&bytes.Buffer{}, time.Minute, "sh", "-c", `cat /proc/self/environ >"$1"; pwd >"$1.dir"`, "sh", report).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	environ, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.FieldsFunc(string(environ), func(r rune) bool { return r == 0 })
	slices.Sort(got)
	want := []string{"CREDAGENT_SINK=/run/credagent/graph.token", "CREDAGENT_TOKENS=graph mail", "LANG=C", "PATH=/usr/bin:/bin", "PWD=/"}
	if !slices.Equal(got, want) {
		t.Errorf("environment %q, want %q", got, want)
	}
	if dir, err := os.ReadFile(report + ".dir"); string(dir) != "/\n" {
		t.Errorf("it runs in %q, %v", dir, err)
	}
}

func TestOutputOfACommandIsBounded(t *testing.T) {
	var log bytes.Buffer
	err := command(&log, time.Minute, "sh", "-c", `echo first; head -c 5000000 /dev/zero | tr '\0' '\n'; echo last >&2`).Run(t.Context())
	if lines := strings.Count(log.String(), "\n"); err != nil || lines != 102 || !strings.Contains(log.String(), `msg="command printed" line=first`) {
		t.Errorf("%v, %d lines: %.300s", err, lines, log.String())
	}
	log.Reset()
	if err := command(&log, time.Minute, "printf", `last\033[2J words`).Run(t.Context()); err != nil || !strings.Contains(log.String(), `line="last [2J words"`) {
		t.Errorf("%v, log %s", err, log.String())
	}
}

func TestACommandEndsWithTheAgent(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		await(func() bool { _, err := os.Stat(started); return err == nil })
		cancel()
	}()
	err := command(&bytes.Buffer{}, time.Hour, "sh", "-c", `: >"$1"; cat /dev/zero >/dev/null`, "sh", started).Run(ctx)
	if text(err) != "context canceled" {
		t.Errorf("error %v", err)
	}
}

// await asks often until the answer is yes, and gives up after a while.
func await(done func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(15 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// What a failing command says of itself is told where its failure is, bounded and without tokens.
func TestStderrOfACommand(t *testing.T) {
	const accessToken = "eyJhbGciOi." + canary + ".signature"
	lookup := func(string) (token.Token, bool) { return token.Token{AccessToken: secret.New(accessToken)}, true }
	for name, tc := range map[string]struct {
		script string
		want   string
	}{
		"a line":          {"echo reading; echo 'app.conf:3: unknown key' >&2; exit 1", "app.conf:3: unknown key"},
		"lines":           {`printf 'one\r\n\ntwo\n\n' >&2; exit 1`, "one\n\ntwo"},
		"nothing":         {"echo only to standard output; exit 1", ""},
		"no line break":   {"printf half >&2; exit 1", "half"},
		"escapes":         {`printf 'red \033[31m\a and \200 done' >&2; exit 1`, "red  [31m  and   done"},
		"the token":       {`echo "+ curl -H 'Authorization: Bearer ` + accessToken + `'" >&2; exit 1`, "+ curl -H 'Authorization: Bearer [redacted]'"},
		"many lines":      {`i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done >&2; exit 1`, "line 490\nline 491\nline 492\nline 493\nline 494\nline 495\nline 496\nline 497\nline 498\nline 499"},
		"a line too long": {`head -c 1000000 /dev/zero | tr '\0' x >&2; echo >&2; echo the reason >&2; exit 1`, "the reason"},
		"a long line":     {`head -c 1000 /dev/zero | tr '\0' x >&2; exit 1`, strings.Repeat("x", tailLine) + "…"},
		"until its limit": {"echo waiting >&2; cat /dev/zero >/dev/null", "waiting"},
		"of a signal":     {"echo ending >&2; kill -USR1 $$", "ending"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			c := command(&log, time.Minute, "sh", "-c", tc.script)
			c.Lookup = lookup
			if name == "until its limit" {
				c.Timeout = 300 * time.Millisecond
			}
			var failed *CommandError
			if err := c.Run(t.Context()); !errors.As(err, &failed) || failed.Stderr != tc.want {
				t.Fatalf("error %v, standard error %q, want %q", err, failed.Stderr, tc.want)
			}
			if strings.Contains(log.String(), canary) {
				t.Error("the log shows the token")
			}
		})
	}
}

// A line is cut only after the tokens in it are hidden, and those that the sink held when the command was
// started are hidden as well as those that took their place.
func TestTokensInWhatACommandPrints(t *testing.T) {
	long := strings.Repeat("Abcd3fgh1j", 120)
	const old, current = "OLDtokenOLDtokenOLDtoken", "NEWtokenNEWtokenNEWtoken"
	script := `printf '%0490d%s\n' 0 "$1"; echo "$2"; echo "$3"; printf '%0490d%s\n' 0 "$2" >&2; echo "$2 $3" >&2; exit 1`
	var log bytes.Buffer
	c := command(&log, time.Minute, "sh", "-c", script, "sh", long, old, current)
	var started atomic.Bool
	c.Lookup = func(name string) (token.Token, bool) {
		value := long
		if name == "mail" {
			value = current
			if !started.Swap(true) {
				value = old // it is refreshed while the command runs
			}
		}
		return token.Token{AccessToken: secret.New(value)}, true
	}
	var failed *CommandError
	if err := c.Run(t.Context()); !errors.As(err, &failed) || !strings.HasSuffix(failed.Stderr, "\n[redacted] [redacted]") {
		t.Errorf("error %v, standard error %q", err, failed.Stderr)
	}
	if lines := strings.Count(log.String(), "[redacted]"); lines != 6 {
		t.Errorf("%d tokens are hidden: %s", lines, log.String())
	}
	for _, part := range []string{long[:10], old[:8], current[:8]} {
		if strings.Contains(log.String()+failed.Stderr, part) {
			t.Errorf("%q is shown: %s, %s", part, log.String(), failed.Stderr)
		}
	}
}

// Where nobody sees what a command prints, nobody looks for tokens in it.
func TestUnseenOutputIsNotSearched(t *testing.T) {
	c := command(nil, time.Minute, "sh", "-c", "echo one; echo two >&2")
	c.Log = slog.New(slog.DiscardHandler)
	asked := 0
	c.Lookup = func(string) (token.Token, bool) { asked++; return token.Token{}, false }
	if err := c.Run(t.Context()); err != nil || asked != len(c.Tokens) {
		t.Errorf("%v, asked %d times for the tokens, want once for each at the start", err, asked)
	}
}

// It stands in the log beside the failure, at the level of that.
func TestFailureIsLoggedWithItsStderr(t *testing.T) {
	var log bytes.Buffer
	w := writing(&scripted{tokens: []string{"graph"}}, &issued{})
	w.o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	w.recordResult(result{action: "command app", err: command(&bytes.Buffer{}, time.Minute, "sh", "-c", "echo no such unit >&2; exit 5").Run(t.Context())})
	if got := log.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, `stderr="no such unit"`) || !strings.Contains(got, `error="it exited with status 5"`) {
		t.Errorf("log %s", got)
	}
}
