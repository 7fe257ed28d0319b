//go:build unix

package process

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell is a command that a shell understands.
func shell(script string, args ...string) Command {
	return Command{
		Path: "/bin/sh", Args: append([]string{"sh", "-c", script, "sh"}, args...),
		Env: []string{"PATH=" + os.Getenv("PATH")}, Dir: "/",
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "/bin:/usr/bin:"+dir)
	for name, want := range map[string]error{
		"sh": nil, "/bin/sh": nil,
		"nosuchprogram": exec.ErrNotFound, "/bin/nosuchprogram": fs.ErrNotExist, plain: fs.ErrPermission, dir: syscall.EISDIR,
	} {
		path, err := Find(name)
		var failure *StartError
		if !errors.Is(err, want) || (want == nil) != filepath.IsAbs(path) {
			t.Errorf("Find(%q) = %q, %v; want %v", name, path, err, want)
		}
		if err != nil && (!errors.As(err, &failure) || failure.Program != name || strings.Count(err.Error(), name) != 1) {
			t.Errorf("Find(%q): %v", name, err)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for name, want := range map[string]os.Signal{
		"HUP": syscall.SIGHUP, "SIGUSR1": syscall.SIGUSR1, "sigwinch": syscall.SIGWINCH, "term": syscall.SIGTERM,
	} {
		if got, err := ParseSignal(name); got != want || err != nil {
			t.Errorf("ParseSignal(%q) = %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "SIG", "9", "HOP", "STOP"} {
		if got, err := ParseSignal(name); err == nil || !strings.Contains(err.Error(), "want one of ALRM, CONT, HUP, INT, KILL, QUIT, TERM, USR1, USR2, WINCH") {
			t.Errorf("ParseSignal(%q) = %v, %v", name, got, err)
		}
	}
}

func TestRun(t *testing.T) {
	for name, tc := range map[string]struct {
		command Command
		want    string // the error
		output  string
	}{
		"well":         {shell("echo out; echo err >&2; cat"), "", "out\nerr\n"},
		"status":       {shell("exit 3"), "it exited with status 3", ""},
		"signal":       {shell("kill -USR1 $$"), "a signal ended it: user defined signal 1", ""},
		"environment":  {Command{Path: "/usr/bin/env", Args: []string{"env"}, Env: []string{"A=b"}}, "", "A=b\n"},
		"directory":    {shell("pwd"), "", "/\n"},
		"not there":    {Command{Path: "/nowhere/x", Args: []string{"x"}}, `starting "x": no such file or directory`, ""},
		"no directory": {Command{Path: "/bin/sh", Args: []string{"sh"}, Dir: "/nowhere"}, `starting "sh": no such file or directory`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var output bytes.Buffer
			err := Run(t.Context(), tc.command, &output)
			if got := textOf(err); got != tc.want || output.String() != tc.output {
				t.Errorf("error %q, output %q; want %q, %q", got, output.String(), tc.want, tc.output)
			}
		})
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// What a program that ended well has left running stays, and does not hold up its end for long.
func TestRunLeavesWhatItStarted(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	began := time.Now()
	err := Run(t.Context(), shell(`cat /dev/zero >/dev/null & echo $! >"$1"`, pidFile), &bytes.Buffer{})
	if took := time.Since(began); err != nil || took > 10*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	left := processIn(t, pidFile)
	if err := left.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("what it started is gone: %v", err)
	}
	_ = left.Kill()
}

func TestRunEndsTheWholeGroup(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		script    string
		least     time.Duration
		lastWords bool
	}{
		"it obeys":   {`trap 'echo bye; exit 0' TERM; cat /dev/zero >/dev/null & echo $! >"$1"; wait`, 0, true},
		"it refuses": {`trap '' TERM; cat /dev/zero >/dev/null & echo $! >"$1"; wait`, grace, false},
	} {
		t.Run(name, func(t *testing.T) {
			pidFile := filepath.Join(dir, strings.ReplaceAll(name, " ", "_"))
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				waitUntil(t, "it has started another", func() bool { return len(content(pidFile)) > 0 })
				cancel(errors.New("enough"))
			}()
			var output bytes.Buffer
			began := time.Now()
			err := Run(ctx, shell(tc.script, pidFile), &output)
			if took := time.Since(began); textOf(err) != "enough" || took < tc.least {
				t.Errorf("%v after %v", err, took)
			}
			if got := output.String() == "bye\n"; got != tc.lastWords {
				t.Errorf("output %q", output.String())
			}
			child := processIn(t, pidFile)
			waitUntil(t, "what it started is gone", func() bool { return child.Signal(syscall.Signal(0)) != nil })
		})
	}
}

func TestRunNeedsTime(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("too late"))
	marker := filepath.Join(t.TempDir(), "ran")
	err := Run(ctx, shell(`: >"$1"`, marker), &bytes.Buffer{})
	if _, statErr := os.Stat(marker); textOf(err) != "too late" || !os.IsNotExist(statErr) {
		t.Errorf("%v, %v", err, statErr)
	}
}

func TestHeir(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		want   int
	}{
		"well": {"exit 0", 0}, "status": {"exit 3", 3}, "killed": {"kill -KILL $$", 137}, "ended": {"kill -TERM $$", 143},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := StartHeir(shell(tc.script), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := h.Wait(); got != tc.want {
				t.Errorf("status %d, want %d", got, tc.want)
			}
			if err := h.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("a signal after the end: %v", err)
			}
		})
	}
	if _, err := StartHeir(Command{Path: "/nowhere", Args: []string{"x"}}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
}

// processIn waits for a file with the number of a process.
func processIn(t *testing.T, path string) *os.Process {
	t.Helper()
	file := content(path)
	var pid int
	for _, digit := range strings.TrimSpace(file) {
		pid = 10*pid + int(digit-'0')
	}
	p, err := os.FindProcess(pid)
	if err != nil || pid == 0 {
		t.Fatalf("%q: %v", file, err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	return p
}

func content(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

// waitUntil fails the test when something does not come true.
func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	if !eventually(done) {
		t.Errorf("it did not come true that %s", what)
	}
}

// eventually asks often, and reports whether the answer became yes.
func eventually(done func() bool) bool {
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
