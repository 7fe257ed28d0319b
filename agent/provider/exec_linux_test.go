package provider

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/internal/handshake"
)

// The bytes that were checked are the bytes that run, whatever happens to the file in between.
func TestSealedIsWhatWasChecked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := executable(t, dir, "x", []byte("checked"))
	sum := digest(t, path)
	file, err := sealed(path, sum)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := os.WriteFile(path, []byte("replaced"), 0o600); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(pathOf(file)); err != nil || string(content) != "checked" {
		t.Errorf("in memory is %q, %v", content, err)
	}
	if _, err := file.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing to it: %v", err)
	}
	if err := file.Truncate(0); !errors.Is(err, unix.EPERM) {
		t.Errorf("shortening it: %v", err)
	}
	if _, err := sealed(path, sum); err == nil || !strings.Contains(err.Error(), "refusing provider") {
		t.Errorf("the replaced file: %v", err)
	}
	if _, err := sealed(filepath.Join(dir, "none"), sum); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// A pinned provider's file may be replaced by a new version while it starts.
func TestReplacedAfterTheCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := asProvider(t, dir, "x")
	r := newRig(t, func(o *Options) { o.Dirs, o.SHA256 = []string{dir}, map[string]string{"x": digest(t, path)} })
	c, err := r.newChild(Spec{Provider: "x"}, r.options.Log)
	if err != nil {
		t.Fatal(err)
	}
	cookie := handshake.Config()
	c.cmd.Env = append(c.cmd.Env, cookie.MagicCookieKey+"="+cookie.MagicCookieValue, "PLUGIN_UNIX_SOCKET_DIR="+t.TempDir())
	ran := filepath.Join(t.TempDir(), "ran")
	executable(t, dir, "x", script("touch "+ran))
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	link, err := os.Readlink("/proc/" + c.ID() + "/exe")
	if err != nil || !strings.HasPrefix(link, "/memfd:credagent-provider") {
		t.Errorf("it runs %q, %v", link, err)
	}
	_ = c.Kill(t.Context())
	_ = c.Wait(t.Context())
	if _, err := os.Stat(ran); !os.IsNotExist(err) {
		t.Error("the replacement ran")
	}
}

// These are not parallel: they change the environment and the descriptors of the whole process.

func TestEnvironmentOfAProvider(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy.example:3128")
	t.Setenv("SSL_CERT_FILE", "/etc/ssl/roots.pem")
	t.Setenv("PROVIDER_TEST_TOKEN", "wanted")
	t.Setenv("PROVIDER_TEST_OTHER", canary)
	t.Setenv("CREDAGENT_CLIENT_SECRET", canary)
	report := reportOf(t, newRig(t, nil), puppet{TokenEnv: "PROVIDER_TEST_TOKEN"})
	var got []string
	for _, variable := range report.Environment {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "PLUGIN_") && name != handshake.Config().MagicCookieKey {
			name += "=" + value
		}
		got = append(got, name)
	}
	slices.Sort(got)
	want := []string{
		"CREDAGENT_PROVIDER_COOKIE", "HTTPS_PROXY=http://proxy.example:3128",
		"PLUGIN_MAX_PORT", "PLUGIN_MIN_PORT", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR",
		"PROVIDER_TEST_TOKEN=wanted", "SSL_CERT_FILE=/etc/ssl/roots.pem",
	}
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok && !slices.Contains(want, name+"="+value) {
			want = append(want, name+"="+value)
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("environment %q, want %q", got, want)
	}
	if args := strings.Join(report.Args, " "); args != "credagent provider behaving" {
		t.Errorf("command line %q", args)
	}
}

// reportOf is what the provider of a client with this configuration sees of its process.
func reportOf(t *testing.T, r *rig, p puppet) selfReport {
	t.Helper()
	p.Do, p.Report = "report itself", filepath.Join(t.TempDir(), "report")
	mustCheck(t, r.process(behaving, p))
	content, err := os.ReadFile(p.Report)
	if err != nil {
		t.Fatal(err)
	}
	var report selfReport
	if err := json.Unmarshal(content, &report); err != nil {
		t.Fatal(err)
	}
	return report
}

// A provider leads a group of its own, so that the agent can end all of it; it is nobody's
// directory that it holds busy, and no terminal's signals reach it.
func TestPlaceOfAProvider(t *testing.T) {
	t.Parallel()
	report := reportOf(t, newRig(t, nil), puppet{})
	if report.Parent != os.Getpid() || report.Group != report.PID || report.Dir != "/" {
		t.Errorf("parent %d, group %d of process %d, directory %s", report.Parent, report.Group, report.PID, report.Dir)
	}
	own, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	if blocked := report.Status["SigBlk"]; blocked == "" || !strings.Contains(string(own), "SigBlk:\t"+blocked) {
		t.Errorf("signals %q are blocked", blocked)
	}
	if report.Dumpable != 0 || report.Core.Cur != 0 || report.Core.Max != 0 {
		t.Errorf("it is dumpable (%d), and a core dump may have %d bytes, later %d", report.Dumpable, report.Core.Cur, report.Core.Max)
	}
}

// leak opens descriptors that every child would inherit, as a service manager's sockets would be,
// and returns what they are.
func leak(t *testing.T) []string {
	t.Helper()
	file, err := unix.Open(os.Args[0], unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], 0); err != nil {
		t.Fatal(err)
	}
	var links []string
	for _, fd := range []int{file, pipe[0], pipe[1]} {
		link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, link)
		t.Cleanup(func() {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags != 0 {
				t.Errorf("this process's own descriptor was left changed: %d, %v", flags, err)
			}
			_ = unix.Close(fd)
		})
	}
	return links
}

func checkDescriptors(t *testing.T, report selfReport, leaked []string) {
	t.Helper()
	for fd, link := range report.Descriptors {
		kind, _, _ := strings.Cut(link, ":")
		if strings.HasPrefix(link, "/sys/fs/cgroup/") || link == fmt.Sprintf("/proc/%d/fd", report.PID) {
			continue // Go's runtime watches its share of the processors, and the report looks here
		}
		if slices.Contains(leaked, link) || !slices.Contains([]string{"pipe", "socket", "anon_inode", "/dev/null"}, kind) {
			t.Errorf("the provider has %s → %s", fd, link)
		}
	}
	if report.Descriptors["0"] != "/dev/null" || !strings.HasPrefix(report.Descriptors["3"], "pipe:") {
		t.Errorf("its standard input is %s, its lifeline %s", report.Descriptors["0"], report.Descriptors["3"])
	}
}

func TestDescriptorsOfAProvider(t *testing.T) {
	leaked := leak(t)
	checkDescriptors(t, reportOf(t, newRig(t, nil), puppet{}), leaked)
}

// Providers die with the agent, however the agent dies and whatever they do just then, and take
// along their sockets and what they have started.
func TestProvidersDieWithTheAgent(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	stalled := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		_, _ = io.Copy(io.Discard, request.Body) // only then does the server notice that the client is gone
		stalled <- struct{}{}
		<-request.Context().Done()
	}))
	defer server.Close()
	agent := exec.CommandContext(t.Context(), ownPath(t), "agent", r.sockets, server.URL)
	output, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	var pids []string
	for len(pids) < agentsProviders && lines.Scan() {
		pid, ok := strings.CutPrefix(lines.Text(), "provider ")
		if !ok {
			t.Fatalf("the agent says %q", lines.Text())
		}
		pids = append(pids, pid)
	}
	for range atServer {
		<-stalled
	}
	children := childrenOf(pids)
	if len(pids) != agentsProviders || len(children) != 1 {
		t.Fatalf("providers %v, with children %v", pids, children)
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	for _, pid := range append(pids, children...) {
		waitUntil(t, "process "+pid+" is gone", func() bool { return strings.Trim(processState(pid), "ZX") == "" })
	}
	waitUntil(t, "the sockets are gone", func() bool {
		entries, err := os.ReadDir(r.sockets)
		return err == nil && len(entries) == 0
	})
}

// A provider that does not mind its pipe and ignores what asks it to end dies with the agent, too, and so
// do what it has started, which nothing tells, and what that has started.
func TestDeafProvidersDieWithTheAgent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "pid")
	executable(t, dir, "deaf", script("trap '' TERM HUP INT; (sleep 1000 & echo $! >"+pidFile+".grandchild; while :; do read line; done </dev/zero) & echo $! >"+pidFile+".child; echo $$ >"+pidFile+"; while :; do read line; done </dev/zero"))
	agent := exec.CommandContext(t.Context(), ownPath(t), "agent of the deaf", dir)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []string
	waitUntil(t, "the provider and its descendants run", func() bool {
		pids = nil
		for _, file := range []string{pidFile, pidFile + ".child", pidFile + ".grandchild"} {
			text, _ := os.ReadFile(file)
			if pid, whole := strings.CutSuffix(string(text), "\n"); whole {
				pids = append(pids, pid)
			}
		}
		return len(pids) == 3 && len(inGroup(pids[0])) == 4 // with the guard
	})
	group := inGroup(pids[0])
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	for _, pid := range group {
		waitUntil(t, "process "+pid+" is gone", func() bool { return strings.Trim(processState(pid), "ZX") == "" })
	}
}

// inGroup are the processes of a group.
func inGroup(leader string) []string {
	var members []string
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		data, _ := os.ReadFile(path)
		_, after, _ := strings.Cut(string(data), ") ")
		if fields := strings.Fields(after); len(fields) > 2 && fields[2] == leader {
			members = append(members, filepath.Base(filepath.Dir(path)))
		}
	}
	return members
}

// childrenOf are the processes whose parent is one of the processes.
func childrenOf(pids []string) []string {
	var children []string
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		data, _ := os.ReadFile(path)
		_, after, _ := strings.Cut(string(data), ") ")
		if fields := strings.Fields(after); len(fields) > 1 && slices.Contains(pids, fields[1]) {
			children = append(children, filepath.Base(filepath.Dir(path)))
		}
	}
	return children
}

func TestSocketIsPrivate(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	mustCheck(t, r.process(behaving, puppet{}))
	entries, err := os.ReadDir(r.sockets)
	if err != nil || len(entries) != 1 {
		t.Fatalf("sockets %v, %v", entries, err)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode() != os.ModeDir|0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
