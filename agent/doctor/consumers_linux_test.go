package doctor

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/credagent/credagent/agent/config"
)

// background starts a process that waits until the test ends. It does what the script says first.
func background(t *testing.T, script string, attributes *syscall.SysProcAttr) (pid int) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script+"; echo ready; read x")
	cmd.SysProcAttr = attributes
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // reading ends in an error
	})
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Skipf("a process cannot be started so: %s", strings.TrimSpace(problems.String()))
	}
	return cmd.Process.Pid
}

func as(uid uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
}

// signalling is a sink whose changes are told to a process.
func signalling(t *testing.T, pid string) config.Sink {
	t.Helper()
	dir := openTemp(t)
	s := sinkAt(filepath.Join(dir, "token"))
	s.OnChange = []config.Action{
		{Command: &config.Command{Run: []string{"true"}}},
		{Signal: &config.Signal{PIDFile: write(t, filepath.Join(dir, "pid"), pid, 0o644), Signal: "HUP"}},
	}
	return s
}

var onlyAgent = want{Note, "only the agent's user can read it", "", ""}

func TestProcessesThatAreNone(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		want    want
	}{
		"empty":    {"", want{Warning, "does not hold the number of a process", "goes on with the old token", "start it"}},
		"words":    {"nginx\n", want{Warning, "does not hold the number of a process", "", ""}},
		"negative": {"-1\n", want{Warning, "does not hold the number of a process", "", ""}},
		"ended":    {"4194304\n", want{Warning, "names process 4194304, which does not run", "another process", "start it"}},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, newExam(configOf(signalling(t, tc.content))).consumers(t.Context()), onlyAgent, tc.want)
		})
	}
	s := signalling(t, "")
	must(t, os.Remove(s.OnChange[1].Signal.PIDFile))
	check(t, newExam(configOf(s)).consumers(t.Context()), onlyAgent, want{Warning, "is not there", "", ""})
}

func TestProcessOfThisUser(t *testing.T) {
	s := signalling(t, strconv.Itoa(os.Getpid())+"\n")
	check(t, newExam(configOf(s)).consumers(t.Context()), onlyAgent)
}

func TestProcessOfAnotherUser(t *testing.T) {
	needRoot(t)
	pid := strconv.Itoa(background(t, ":", as(4001)))
	cannotRead := want{Problem, "which runs as #4001, will not be allowed to read it", "cannot use", "readers: [{ user: 4001 }]"}
	for name, tc := range map[string]struct {
		change func(*config.Sink)
		want   []want
	}{
		"not allowed":     {func(*config.Sink) {}, []want{onlyAgent, cannotRead}},
		"everybody":       {func(s *config.Sink) { s.Mode = 0o644 }, nil},
		"its group":       {func(s *config.Sink) { s.Mode, s.Group = 0o640, "4001" }, nil},
		"another group":   {func(s *config.Sink) { s.Mode, s.Group = 0o640, "4002" }, []want{cannotRead}},
		"the owner":       {func(s *config.Sink) { s.Owner = "4001" }, nil},
		"a reader":        {func(s *config.Sink) { s.Readers = []config.Principal{{User: "4001"}} }, nil},
		"a reading group": {func(s *config.Sink) { s.Readers = []config.Principal{{Group: "4001"}} }, nil},
		"another reader":  {func(s *config.Sink) { s.Readers = []config.Principal{{User: "4002"}} }, []want{cannotRead}},
		"shut out":        {func(s *config.Sink) { s.Mode = 0o644; must(t, os.Chmod(filepath.Dir(s.Path), 0o700)) }, []want{{Problem, "cannot enter directory", "", "chmod o+x"}}},
		"a set-group place": {func(s *config.Sink) {
			s.Mode = 0o640
			must(t, os.Chown(filepath.Dir(s.Path), 0, 4001))
			must(t, os.Chmod(filepath.Dir(s.Path), 0o755|os.ModeSetgid))
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := signalling(t, pid)
			tc.change(&s)
			check(t, newExam(configOf(s)).consumers(t.Context()), tc.want...)
		})
	}
}

func TestProcessInAContainer(t *testing.T) {
	needRoot(t)
	pid := background(t, ":", &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS})
	s := signalling(t, strconv.Itoa(pid))
	check(t, newExam(configOf(s)).consumers(t.Context()), onlyAgent,
		want{Note, "is in a mount namespace of its own", "cannot be told from here", "mount the directory"})
}

// TestSingleFileMountedInAContainer is what mounts looks for, as Docker's -v FILE makes it.
func TestSingleFileMountedInAContainer(t *testing.T) {
	needRoot(t)
	dir := openTemp(t)
	path := write(t, filepath.Join(dir, "run", "token"), "old", 0o644)
	seen := write(t, filepath.Join(dir, "seen"), "", 0o644)
	pid := background(t, "mount --bind '"+path+"' '"+seen+"'", &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS})
	e := newExam(configOf(sinkAt(path)))
	expected := want{Problem, "process " + strconv.Itoa(pid) + " (sh) sees it through a bind mount of the single file, at " + quote(seen), "goes on showing", "mount the directory " + quote(filepath.Dir(path))}
	check(t, e.mounts(t.Context()), expected)

	must(t, os.WriteFile(path+".new", []byte("new"), 0o644))
	must(t, os.Rename(path+".new", path))
	check(t, e.mounts(t.Context()), expected)
}

// A command that follows changes has to be there, and to be a program and not a line for a shell.
func TestCommandsThatCannotRun(t *testing.T) {
	for name, tc := range map[string]struct {
		run  []string
		want []want
	}{
		"it can":        {[]string{"sh", "-c", "true | cat"}, nil},
		"not installed": {[]string{"no-such-program"}, []want{{Problem, `on_change: there is no program "no-such-program"`, "the old token", "install it"}}},
		"a path":        {[]string{"/usr/bin/no-such-program"}, []want{{Problem, `there is no program "/usr/bin/no-such-program"`, "", "correct the path"}}},
		"one word":      {[]string{"systemctl reload app"}, []want{{Problem, "is one word", "", "run: [systemctl, …]"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := sinkAt(filepath.Join(openTemp(t), "token"))
			s.OnChange = []config.Action{{Command: &config.Command{Run: tc.run}}}
			check(t, newExam(configOf(s)).consumers(t.Context()), append([]want{onlyAgent}, tc.want...)...)
		})
	}
}
