package main

import (
	"bufio"
	"bytes"
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

	"golang.org/x/sys/unix"
)

// soundingArgument makes the test binary be a command that says which signals reach it, and ends with
// the status that it reads.
const soundingArgument = "sound-signals"

func soundSignals() {
	heard := make(chan os.Signal, 16)
	signal.Notify(heard, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGCONT)
	fmt.Println("sounding", os.Getppid())
	lines := bufio.NewScanner(os.Stdin)
	read := make(chan string)
	go func() {
		for lines.Scan() {
			read <- lines.Text()
		}
	}()
	for {
		select {
		case s := <-heard:
			fmt.Println("heard", s)
		case line := <-read:
			status, _ := strconv.Atoi(line)
			os.Exit(status)
		}
	}
}

// terminal is a terminal, and what is to be seen there.
type terminal struct {
	t    *testing.T
	keys *os.File
	seen chan string // lines
	all  []string
}

// newScreen starts a program on a terminal of its own, as its session's leader.
func newScreen(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal can be made: %v", err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	fd := int(keys.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	display, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer display.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = display, display, display
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &terminal{t: t, keys: keys, seen: make(chan string, 1000)}
	go func() {
		defer close(s.seen)
		for lines := bufio.NewScanner(keys); lines.Scan(); {
			s.seen <- strings.TrimSpace(lines.Text())
		}
	}()
	return s
}

// await returns the first line that is to be seen and has the text in it.
func (s *terminal) await(text string) string {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, open := <-s.seen:
			s.all = append(s.all, line)
			if strings.Contains(line, text) {
				return line
			}
			if !open {
				s.t.Fatalf("%q is not to be seen:\n%s", text, strings.Join(s.all, "\n"))
			}
		case <-deadline:
			s.t.Fatalf("%q is not to be seen within %v:\n%s", text, patience, strings.Join(s.all, "\n"))
		}
	}
}

func (s *terminal) press(keys string) {
	s.t.Helper()
	if _, err := s.keys.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// count is how often a line was to be seen, perhaps after the echo of a key.
func (s *terminal) count(line string) int {
	n := 0
	for _, seen := range s.all {
		if strings.HasSuffix(seen, line) {
			n++
		}
	}
	return n
}

const (
	controlC         = "\x03"
	controlBackslash = "\x1c"
	controlZ         = "\x1a"
)

// TestKeysReachTheCommandOnce presses keys in a terminal that credagent leads, as in a container, and
// in one that a shell has given it.
func TestKeysReachTheCommandOnce(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, words := range map[string][]string{
		"alone":         {self, "exec", "-c", "CONFIG", "--", self, soundingArgument},
		"under a shell": {"/bin/sh", "-c", `trap : INT QUIT; "$0" exec -c "$1" -- "$0" ` + soundingArgument + `; echo "status $?"; exit 5`, self, "CONFIG"},
	} {
		t.Run(name, func(t *testing.T) {
			place := newExecPlace(t, "")
			for i := range words {
				words[i] = strings.ReplaceAll(words[i], "CONFIG", place.config)
			}
			cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
			cmd.Env = append(os.Environ(), selfVariable+"=1")
			s := newScreen(t, cmd)
			var parent int
			if _, err := fmt.Sscanf(s.await("sounding"), "sounding %d", &parent); err != nil {
				t.Fatal(err)
			}
			s.press(controlC)
			s.await("heard interrupt")
			s.press(controlBackslash)
			s.await("heard quit")
			if err := syscall.Kill(parent, syscall.SIGUSR1); err != nil {
				t.Error(err)
			}
			s.await("heard user defined signal 1")
			if name == "alone" { // the one that nobody could have sent but credagent
				if err := syscall.Kill(parent, syscall.SIGINT); err != nil {
					t.Error(err)
				}
				s.await("heard interrupt")
			}
			s.press("5\n") // and what is typed is the command's to read
			s.await("agent stopped")
			if name != "alone" {
				s.await("status 5")
			}
			_ = cmd.Wait()
			if status := cmd.ProcessState.ExitCode(); status != 5 {
				t.Errorf("status %d", status)
			}
			want := map[string]int{"alone": 2, "under a shell": 1}[name]
			if got := s.count("heard interrupt"); got != want || s.count("heard quit") != 1 {
				t.Errorf("interrupts: %d, want %d; quits: %d\n%s", got, want, s.count("heard quit"), strings.Join(s.all, "\n"))
			}
		})
	}
}

// TestQuitDumpsNothing sends SIGQUIT to commands that were started with signals ignored: exec goes on with its
// command, or passes the signal on; run ends as by SIGTERM, or goes on. None ends as a crash does.
func TestQuitDumpsNothing(t *testing.T) {
	// What go test runs itself has no symbols, so it does not know that it ignores SIGQUIT.
	program := filepath.Join(t.TempDir(), "credagent")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tests := map[string]struct {
		trap, command string
		goesOn        bool
	}{
		"exec":                   {":", "exec", false},
		"exec with QUIT ignored": {"trap '' QUIT", "exec", true},
		"exec in the background": {"trap '' INT QUIT", "exec", true},
		"exec with INT ignored":  {"trap '' INT", "exec", false},
		"run":                    {":", "run", false},
		"run in the background":  {"trap '' INT QUIT", "run", true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			place := newExecPlace(t, "")
			words := map[string]string{
				"exec": `exec "$0" exec -c "$1" -- sh -c ': >"$0"; exec sleep 600' "$2"`,
				"run":  `exec "$0" run -c "$1"`,
			}
			started := filepath.Join(place.dir, "started")
			cmd := exec.CommandContext(t.Context(), "sh", "-c", tc.trap+"; "+words[tc.command], program, place.config, started)
			var log bytes.Buffer
			cmd.Stderr = &log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if tc.command == "run" {
				started = filepath.Join(place.dir, "app.env")
			}
			awaitFile(t, started)
			signals := []syscall.Signal{syscall.SIGQUIT}
			if tc.goesOn {
				signals = append(signals, syscall.SIGQUIT, syscall.SIGTERM)
			}
			for _, s := range signals {
				if err := cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			_ = cmd.Wait()
			want := map[bool]int{false: 128 + int(syscall.SIGQUIT), true: 128 + int(syscall.SIGTERM)}[tc.goesOn]
			if tc.command == "run" {
				want = 0
			}
			if got := cmd.ProcessState.ExitCode(); got != want || bytes.Contains(log.Bytes(), []byte("goroutine ")) {
				t.Errorf("status %d, want %d\n%s", got, want, &log)
			}
		})
	}
}

// TestStoppedAndContinued stops a shell's job by a key and continues it: the command and credagent stop
// and go on together.
func TestStoppedAndContinued(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	place := newExecPlace(t, "")
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c",
		`set -m; "$0" exec -c "$1" -- "$0" `+soundingArgument+`; echo "the shell has it"; fg; echo "status $?"`, self, place.config)
	cmd.Env = append(os.Environ(), selfVariable+"=1")
	s := newScreen(t, cmd)
	s.await("sounding")
	s.press(controlZ)
	s.await("the shell has it")
	s.await("heard continued") // the shell gives the terminal first
	s.press(controlC)
	s.await("heard interrupt")
	s.press("5\n")
	s.await("status 5")
	_ = cmd.Wait()
	if s.count("heard interrupt") != 1 || s.count("heard continued") != 1 {
		t.Errorf("not each of them came once:\n%s", strings.Join(s.all, "\n"))
	}
}

// execPlace is where a command is run: a server with a client, and a configuration.
type execPlace struct{ dir, config string }

func newExecPlace(t *testing.T, more string) execPlace {
	t.Helper()
	dir := t.TempDir()
	tokenURL := testServer(t, 12*time.Second)
	write(t, filepath.Join(dir, "secret"), []byte(canary))
	p := execPlace{dir, filepath.Join(dir, "credagent.yaml")}
	write(t, p.config, fmt.Appendf(nil, `listen: ""
plugins: { idle_timeout: 1s }
clients: { app: { token_url: %q, client_id: app, credential: { provider: secretcred, config: { secret_file: %s/secret } } } }
tokens: { graph: { client: app, scopes: [read] } }
sinks:
  - { type: env, path: %[2]s/app.env, variables: { GRAPH_TOKEN: graph } }
%s`, tokenURL, dir, strings.ReplaceAll(more, "DIR", dir)))
	return p
}

// TestStopWithAllThatHangs stops exec while its command ignores SIGTERM and an action of a sink hangs.
func TestStopWithAllThatHangs(t *testing.T) {
	place := newExecPlace(t, `  - type: file
    token: graph
    path: DIR/graph.token
    on_change: [{ command: { run: [sh, -c, "trap '' TERM; echo $$$$ >DIR/hook.new; mv DIR/hook.new DIR/hook; while :; do sleep 600; done"], timeout: 10m } }]
`)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "exec", "-c", place.config, "--kill-timeout", "1s", "--",
		"sh", "-c", `trap '' TERM; : >"$0/command"; exec sleep 600`, place.dir)
	var log bytes.Buffer
	cmd.Env, cmd.Stderr = append(os.Environ(), selfVariable+"=1"), &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, filepath.Join(place.dir, "command"))
	hook, err := strconv.Atoi(strings.TrimSpace(awaitFile(t, filepath.Join(place.dir, "hook"))))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if took := time.Since(began); took > 5*time.Second || cmd.ProcessState.ExitCode() != 137 {
		t.Errorf("status %d after %v\n%s", cmd.ProcessState.ExitCode(), took, &log)
	}
	if left := runningIn(hook); len(left) > 0 {
		t.Errorf("of the action is still running: %q", left)
	}
}

// runningIn are the processes of a group that have not ended.
func runningIn(group int) []string {
	var running []string
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, _ := os.ReadFile(path)
		_, after, _ := strings.Cut(string(data), ") ") // state, parent, group
		fields := append(strings.Fields(after), "", "", "")
		if fields[2] == strconv.Itoa(group) && fields[0] != "Z" && fields[0] != "X" {
			running = append(running, string(data))
		}
	}
	return running
}

// TestStopWhileItStarts stops exec while a provider hangs that was only to check its configuration.
func TestStopWhileItStarts(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	provider := filepath.Join(dir, "credagent-provider-hang")
	write(t, provider, []byte("#!/bin/sh\n: >\"${0%/*}/started\"\nexec sleep 600\n"))
	if err := os.Chmod(provider, 0o755); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	config := filepath.Join(dir, "credagent.yaml")
	write(t, config, fmt.Appendf(nil, `listen: ""
plugins: { dirs: [%s] }
clients: { app: { token_url: "https://login.example.com/token", client_id: app, credential: { provider: hang } } }
tokens: { graph: { client: app } }
sinks: [{ type: env, path: %[1]s/app.env, variables: { GRAPH_TOKEN: graph } }]
`, dir))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "exec", "-c", config, "--", "touch", filepath.Join(dir, "ran"))
	cmd.Env = append(os.Environ(), selfVariable+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, filepath.Join(dir, "started"))
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if took := time.Since(began); took > 5*time.Second || cmd.ProcessState.ExitCode() != 143 {
		t.Errorf("status %d after %v", cmd.ProcessState.ExitCode(), took)
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); !os.IsNotExist(err) {
		t.Error("the command ran")
	}
}

// awaitFile waits for a file and returns what is in it.
func awaitFile(t *testing.T, path string) string {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		if data, err := os.ReadFile(path); err == nil {
			return string(data)
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s is not there within %v", path, patience)
		}
	}
}

// orphaning leaves orphans behind until a second token is there, and ends well if all were buried.
const orphaning = `
first=$(cat "$0/app.env")
while test "$(cat "$0/app.env")" = "$first"; do
	for i in 1 2 3 4 5 6 7 8 9; do sh -c '(exit 3) & (exit 4) &'; done
	sleep 0.1
done
left() { cat /proc/[0-9]*/stat 2>/dev/null | grep -c '^[0-9]* ([^)]*) Z 1 '; }
n=0
while test "$(left)" != 0; do
	n=$((n+1)); test $n -lt 200 || exit 1
	sleep 0.05
done
test $(cat /proc/1/comm) != unshare || exit 2
exit 7`

// TestFirstProcessOfAContainer runs exec as the first process of a PID namespace: orphans are
// buried, and neither the command's status nor a provider's process gets lost in that.
func TestFirstProcessOfAContainer(t *testing.T) {
	namespace := []string{"unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"}
	if os.Geteuid() == 0 {
		namespace = []string{"unshare", "--pid", "--fork", "--mount-proc"}
	}
	if out, err := exec.CommandContext(t.Context(), namespace[0], append(namespace[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("no PID namespace can be made here: %v: %s", err, out)
	}
	place := newExecPlace(t, "")
	words := append(namespace[1:], os.Args[0], "exec", "-c", place.config, "--", "sh", "-c", orphaning, place.dir)
	cmd := exec.CommandContext(t.Context(), namespace[0], words...)
	var log bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), selfVariable+"=1"), &log, &log
	_ = cmd.Run()
	if status := cmd.ProcessState.ExitCode(); status != 7 || strings.Contains(log.String(), "token request failed") {
		t.Errorf("status %d\n%s", status, &log)
	}
}
