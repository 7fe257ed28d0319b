package provider

import (
	"bufio"
	"errors"
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
	r := newRig(t, nil)
	report := filepath.Join(t.TempDir(), "report")
	mustCheck(t, r.process(behaving, puppet{Do: "report the environment", Report: report, TokenEnv: "PROVIDER_TEST_TOKEN"}))
	pid := strconv.Itoa(r.startedPID())
	content, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(content)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
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
	if os.Geteuid() == 0 { // a provider hides its own from other users, root excepted
		raw, err := os.ReadFile("/proc/" + pid + "/environ")
		if err != nil || strings.Contains(string(raw), canary) || len(raw) == 0 {
			t.Errorf("environ %q, %v", raw, err)
		}
	}
	cmdline, err := os.ReadFile("/proc/" + pid + "/cmdline")
	if err != nil || string(cmdline) != "credagent\x00provider\x00behaving\x00" {
		t.Errorf("command line %q, %v", cmdline, err)
	}
}

func TestDescriptorsOfAProvider(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a provider hides its descriptors from all but root")
	}
	file, err := unix.Open(os.Args[0], unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(file)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	leaked := []string{linkOf(t, "self", file), linkOf(t, "self", pipe[0])}

	r := newRig(t, nil)
	mustCheck(t, r.process(behaving, puppet{}))
	pid := strconv.Itoa(r.startedPID())
	entries, err := os.ReadDir("/proc/" + pid + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		link, err := os.Readlink("/proc/" + pid + "/fd/" + entry.Name())
		if err != nil {
			continue // its own, closed meanwhile
		}
		kind, _, _ := strings.Cut(link, ":")
		if strings.HasPrefix(link, "/sys/fs/cgroup/") {
			continue // Go's runtime watches its share of the processors
		}
		if slices.Contains(leaked, link) || !slices.Contains([]string{"pipe", "socket", "anon_inode", "/dev/null"}, kind) {
			t.Errorf("the provider has %s → %s", entry.Name(), link)
		}
		if entry.Name() == "0" && link != "/dev/null" {
			t.Errorf("its standard input is %s", link)
		}
	}
	for _, fd := range []int{file, pipe[0], pipe[1]} {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags != 0 {
			t.Errorf("this process's own descriptor was left changed: %d, %v", flags, err)
		}
	}
}

func linkOf(t *testing.T, pid string, fd int) string {
	t.Helper()
	link, err := os.Readlink(filepath.Join("/proc", pid, "fd", strconv.Itoa(fd)))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// A provider dies with the agent, however the agent dies, and takes its socket along.
func TestProviderDiesWithTheAgent(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(self, "agent", r.sockets)
	output, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	input, err := agent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	pid := strings.TrimSpace(line)
	if err != nil || processState(pid) == "" || len(r.left()) == 0 && os.Geteuid() == 0 {
		t.Fatalf("the agent says %q, %v", line, err)
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	waitUntil(t, "the provider is gone", func() bool { return strings.Trim(processState(pid), "ZX") == "" })
	waitUntil(t, "its socket is gone", func() bool {
		entries, err := os.ReadDir(r.sockets)
		return err == nil && len(entries) == 0
	})
}

// A provider keeps what it knows from other processes of its user.
func TestProviderCannotBeTraced(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	mustCheck(t, r.process(behaving, puppet{}))
	pid := strconv.Itoa(r.startedPID())
	info, err := os.Stat("/proc/" + pid + "/environ")
	if err != nil {
		t.Fatal(err)
	}
	if owner, ok := ownerOf(info); !ok || owner != 0 {
		t.Errorf("its memory belongs to uid %d", owner)
	}
	limits, err := os.ReadFile("/proc/" + pid + "/limits")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok && strings.Join(strings.Fields(rest), " ") != "0 0 bytes" {
			t.Errorf("core dumps may have %s", strings.TrimSpace(rest))
		}
	}
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
