package delivery

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/process"
)

// program starts a process that takes its time, and returns it with a file that names it.
func program(t *testing.T) (cmd *exec.Cmd, pidFile string) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), "cat", "/dev/zero")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, written(t, strconv.Itoa(cmd.Process.Pid)+"\n")
}

func written(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.pid")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSignalArrives(t *testing.T) {
	// What is caught here is not ignored in a program that is started, not even under nohup.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGTERM)
	defer signal.Stop(caught)
	for name, want := range map[string]syscall.Signal{"HUP": syscall.SIGHUP, "SIGUSR1": syscall.SIGUSR1, "term": syscall.SIGTERM} {
		cmd, pidFile := program(t)
		if err := (Signal{pidFile, name}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if got := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != want {
			t.Errorf("%s: %v arrived", name, got)
		}
	}
}

func TestWhatAPIDFileMayHold(t *testing.T) {
	cmd, _ := program(t)
	pid := strconv.Itoa(cmd.Process.Pid)
	if err := (Signal{written(t, " "+pid+" \r\n/var/lib/app\n5432\n"), "CONT"}).Run(t.Context()); err != nil {
		t.Errorf("more lines than one: %v", err)
	}
	ended := exec.CommandContext(t.Context(), "true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ content, want string }{
		"nothing":      {"", "it holds no number"},
		"a line break": {"\n" + pid, "it holds no number"},
		"zero":         {"0", "not the number of a process"},
		"a group":      {"-" + pid, "not the number of a process"},
		"all there is": {"-1", "not the number of a process"},
		"init":         {"1\n", "process 1, the system's own"},
		"the agent":    {strconv.Itoa(os.Getpid()), "the agent itself"},
		"garbage":      {"app\n", "not the number of a process"},
		"hexadecimal":  {"0x10", "not the number of a process"},
		"too large":    {"99999999999", "not the number of a process"},
		"a zero byte":  {pid + "\x00", "not the number of a process"},
		"without end":  {strings.Repeat("1", 1<<20), "not the number of a process"},
		"one that was": {strconv.Itoa(ended.Process.Pid), "no process has the number " + strconv.Itoa(ended.Process.Pid)},
	} {
		t.Run(name, func(t *testing.T) {
			path := written(t, tc.content)
			wantFailure(t, Signal{path, "HUP"}, path, tc.want)
		})
	}
}

func wantFailure(t *testing.T, s Signal, path, want string) {
	t.Helper()
	err := s.Run(t.Context())
	if prefix := fmt.Sprintf("signalling the process in %q: ", path); err == nil || !strings.HasPrefix(err.Error(), prefix) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s…%s", err, prefix, want)
	}
}

func TestWhatAPIDFileMayBe(t *testing.T) {
	cmd, pidFile := program(t)
	dir := t.TempDir()
	wantFailure(t, Signal{dir, "HUP"}, dir, "not a regular file")
	wantFailure(t, Signal{dir + "/none", "HUP"}, dir+"/none", "no such file or directory")
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, Signal{pipe, "HUP"}, pipe, "not a regular file")

	// A process that is younger than the file that names it has the number of another that ended.
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(pidFile, old, old); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, Signal{pidFile, "HUP"}, pidFile, "after the file was written at "+old.UTC().Format(time.RFC3339))
	if err := os.Chtimes(pidFile, old, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o602, 0o620, 0o664, 0o666} {
		if err := os.Chmod(pidFile, mode); err != nil {
			t.Fatal(err)
		}
		wantFailure(t, Signal{pidFile, "HUP"}, pidFile, "others may write to it")
	}
	if err := os.Chmod(pidFile, 0o644); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, Signal{pidFile, "HOP"}, pidFile, `unknown signal "HOP"`)
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("one of these was sent all the same: %v", err)
	}
}

// TestWhereAPIDFileMayBe: whoever can put another file in its place chooses who is signalled.
func TestWhereAPIDFileMayBe(t *testing.T) {
	cmd, _ := program(t)
	pid := strconv.Itoa(cmd.Process.Pid)
	for name, tc := range map[string]struct {
		arrange func(t *testing.T, path string)
		want    string
	}{
		"a link": {func(t *testing.T, path string) {
			mustDo(t, os.Rename(path, path+".real"))
			mustDo(t, os.Symlink(path+".real", path))
		}, "symbolic link"},
		"everybody's directory": {func(t *testing.T, path string) { mustDo(t, os.Chmod(filepath.Dir(path), 0o777)) }, "chmod go-w"},
		"a group's directory":   {func(t *testing.T, path string) { mustDo(t, os.Chmod(filepath.Dir(path), 0o770)) }, "chmod go-w"},
		"root's file in another's directory": {func(t *testing.T, path string) {
			if os.Geteuid() != 0 {
				t.Skip("giving a directory away needs root")
			}
			mustDo(t, os.Chown(filepath.Dir(path), 65534, -1))
		}, "belongs to uid 65534"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "app.pid")
			mustDo(t, os.WriteFile(path, []byte(pid), 0o600))
			tc.arrange(t, path)
			wantFailure(t, Signal{path, "KILL"}, path, tc.want)
		})
	}
	if stat, ok := process.ReadStat(cmd.Process.Pid); ok && stat.Ended() {
		t.Error("one of these was sent all the same")
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestZombieIsReported: it has a number, takes signals and does nothing.
func TestZombieIsReported(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "true")
	mustDo(t, cmd.Start())
	defer func() { _ = cmd.Wait() }()
	if !process.AwaitExit(cmd.Process) {
		t.Skip("the system does not tell when a process ends")
	}
	path := written(t, strconv.Itoa(cmd.Process.Pid))
	wantFailure(t, Signal{path, "HUP"}, path, "a zombie")
}

// Who owns a file that names a process must be able to signal the process without the agent's help.
func TestOwnerOfAPIDFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a file away needs root")
	}
	_, pidFile := program(t)
	if err := os.Chown(pidFile, 65534, -1); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, Signal{pidFile, "HUP"}, pidFile, "the file belongs to user 65534")

	theirs := exec.CommandContext(t.Context(), "cat", "/dev/zero")
	theirs.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := theirs.Start(); err != nil {
		t.Fatal(err)
	}
	path := written(t, strconv.Itoa(theirs.Process.Pid))
	if err := os.Chown(path, 65534, -1); err != nil {
		t.Fatal(err)
	}
	if err := (Signal{path, "TERM"}).Run(t.Context()); err != nil {
		t.Error(err)
	}
	_ = theirs.Wait()
}

func TestStartOf(t *testing.T) {
	cmd, _ := program(t)
	started, ok := startOf(cmd.Process.Pid)
	if age := time.Since(started); !ok || age < -time.Second || age > time.Minute {
		t.Errorf("it seems to be %v old: %v", age, ok)
	}
	if started, ok := startOf(1 << 30); ok {
		t.Errorf("no process began at %v", started)
	}
	if uid, ok := userOf(cmd.Process.Pid); !ok || uid != os.Getuid() {
		t.Errorf("it belongs to %d, %v", uid, ok)
	}
}
