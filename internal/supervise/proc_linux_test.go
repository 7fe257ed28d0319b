package supervise

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/internal/process"
)

func TestIgnoredAtStart(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell to ignore signals in")
	}
	// What go test runs itself has no symbols.
	program := filepath.Join(t.TempDir(), "program")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	report := func(t *testing.T, trap string) []string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), sh, "-c", trap+`; exec "$0"`, program)
		cmd.Env = append(os.Environ(), reportVariable+"=1")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	inherited := report(t, ":") // whoever runs the tests may ignore signals too
	for _, ignored := range []string{"", "1", "2", "3", "13", "15", "10 12", "14", "20", "28", "1 2 3 10 12 13 14 15 20 28"} {
		t.Run("ignored "+ignored, func(t *testing.T) {
			trap := ":"
			if ignored != "" {
				trap = "trap '' " + ignored
			}
			want := append(strings.Fields(ignored), inherited...)
			slices.Sort(want)
			got := report(t, trap)
			if slices.Sort(got); !slices.Equal(got, slices.Compact(want)) {
				t.Errorf("ignored are %q, want %q", got, want)
			}
		})
	}
}

func TestBelow(t *testing.T) {
	all := map[int]process.Stat{2: {Parent: 1}, 3: {Parent: 2}, 4: {Parent: 3}, 5: {Parent: 1}, 6: {Parent: 5}, 1: {Parent: 0}}
	got := below(all, 2)
	if _, child := got[3]; len(got) != 2 || !child {
		t.Errorf("%v", got)
	}
}

// TestWhatACommandLeavesIsEnded starts commands that leave others behind in every way.
func TestWhatACommandLeavesIsEnded(t *testing.T) {
	for name, script := range map[string]string{
		"a child":             "sleep 600 & echo $!; wait",
		"one of a subshell":   "(sleep 600 & echo $!); sleep 600",
		"one that ignores it": "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' & wait",
		"in its own session":  "setsid sh -c 'echo $$; exec sleep 600' & wait",
		"below others":        "sh -c 'sh -c \"echo \\$\\$; exec sleep 600\"; :'; :",
	} {
		t.Run(name, func(t *testing.T) {
			f := newFamily(Plan{KillSignal: syscall.SIGTERM, RestartTime: 200 * time.Millisecond})
			defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
			ctx, stop := context.WithCancel(t.Context())
			reaped := make(chan struct{})
			go func() { defer close(reaped); process.Reap(ctx) }()
			defer func() { stop(); <-reaped }()
			cmd := exec.Command("sh", "-c", script)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := process.Start(cmd); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			left, bad := strconv.Atoi(strings.TrimSpace(line))
			if err != nil || bad != nil {
				t.Fatalf("%q, %v", line, err)
			}
			f.update(cmd.Process.Pid)
			_ = cmd.Process.Kill()
			_ = process.Wait(cmd)
			if remaining := f.clear(); slices.Contains(remaining, left) {
				t.Errorf("%d goes on", left)
			}
			if _, runs := processes()[left]; runs {
				t.Errorf("%d runs", left)
				_ = unix.Kill(left, unix.SIGKILL)
			}
		})
	}
}

func TestHears(t *testing.T) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGUSR1)
	defer signal.Stop(caught)
	cmd := exec.CommandContext(t.Context(), "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	for name, tc := range map[string]struct {
		pid  int
		sig  syscall.Signal
		want bool
	}{
		"a handler":            {os.Getpid(), syscall.SIGUSR1, true},
		"none":                 {cmd.Process.Pid, syscall.SIGUSR1, false},
		"none, hangup":         {cmd.Process.Pid, syscall.SIGHUP, false},
		"none, alarm":          {cmd.Process.Pid, syscall.SIGALRM, false},
		"one that ends":        {cmd.Process.Pid, syscall.SIGTERM, true},
		"one that does little": {cmd.Process.Pid, syscall.SIGWINCH, true},
		"nobody":               {1 << 22, syscall.SIGHUP, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := handlesSignal(tc.pid, tc.sig); got != tc.want {
				t.Errorf("%v", got)
			}
		})
	}
}
