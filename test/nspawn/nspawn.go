//go:build linux

// Package nspawn boots a real systemd for tests: a minimal Debian in systemd-nspawn, with process,
// mount and network namespaces of its own and a file system that is forgotten with it.
//
// It owns the root file system in the user's cache directory and what it starts, and promises that
// nothing outlives the test. Caveat: it needs root, systemd-nspawn and, once, mmdebstrap with
// Debian's packages in reach; limits that cgroups enforce, such as MemoryMax, need not be in force.
package nspawn

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	bootLimit = time.Minute
	stopLimit = 30 * time.Second
	// Patience bounds every wait for something that a test expects.
	Patience = time.Minute
	poll     = 20 * time.Millisecond
	// powerOff is SIGRTMIN+4, which systemd as a first process understands.
	powerOff = syscall.Signal(38)
)

// Guest is a booted machine. Its methods fail the test when something does not work.
type Guest struct {
	t      testing.TB
	name   string
	leader int // the guest's first process, as this machine counts
	host   *exec.Cmd
	said   bytes.Buffer
	ended  chan error
}

// Boot starts a machine and returns when it is up. It ends with the test. Where it cannot be
// started, the test fails and names what is missing: whoever boots a machine was asked to.
func Boot(t testing.TB) *Guest {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("booting systemd needs root")
	}
	if _, err := exec.LookPath("systemd-nspawn"); err != nil {
		t.Fatal("systemd-nspawn is missing: apt-get install systemd-container")
	}
	root, err := rootFS(t.Context())
	if errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("%v: apt-get install mmdebstrap", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	g := &Guest{t: t, name: "credagent-" + strings.ToLower(rand.Text()[:8]), ended: make(chan error, 1)}
	g.start(root)
	t.Cleanup(g.stop)
	g.awaitBoot()
	return g
}

// start runs systemd-nspawn in a cgroup of its own: it makes the guest's below the one it is
// started in, which two guests must not share.
func (g *Guest) start(root string) {
	g.t.Helper()
	script := `for dir; do mkdir -p "$dir" && echo $$ >"$dir/cgroup.procs"; done
exec systemd-nspawn --quiet --boot --directory="$ROOT" --machine="$NAME" --volatile=overlay \
	--register=no --keep-unit --private-network --console=pipe \
	--system-call-filter=bpf --capability=all`
	g.host = exec.Command("sh", append([]string{"-ec", script, "sh"}, g.cgroups()...)...)
	g.host.Env = []string{"PATH=" + searchPath, "ROOT=" + root, "NAME=" + g.name, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1"}
	g.host.Stdout, g.host.Stderr = &g.said, &g.said
	// Should this process be killed, the guest must not stay.
	g.host.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := g.host.Start(); err != nil {
		g.t.Fatal(err)
	}
	go func() { g.ended <- g.host.Wait() }()
}

// cgroups are the guest's in every hierarchy that systemd uses: one on a new system, two on one
// that still has version 1.
func (g *Guest) cgroups() []string {
	var dirs []string
	for _, hierarchy := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(filepath.Join(hierarchy, "cgroup.procs")); err == nil {
			dirs = append(dirs, filepath.Join(hierarchy, g.name))
		}
	}
	return dirs
}

func (g *Guest) awaitBoot() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), bootLimit)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case err := <-g.ended:
			g.ended <- err
			g.t.Fatalf("booting: systemd-nspawn ended: %v\n%s", err, &g.said)
		case <-ctx.Done():
			g.t.Fatalf("booting: not up after %v", bootLimit)
		case <-tick.C:
		}
		if g.leader = childOf(g.host.Process.Pid); g.leader == 0 {
			continue
		}
		state, err := g.command(ctx, "systemctl", "is-system-running", "--wait").Output()
		switch strings.TrimSpace(string(state)) {
		case "running":
			return
		case "degraded":
			g.t.Fatalf("booting: %v\n%s", err, g.Run("systemctl", "--failed", "--no-pager"))
		}
	}
}

// childOf is the first child of a process, or 0.
func childOf(pid int) int {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(children)), " ")
	child, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return child
}

func (g *Guest) stop() {
	if g.t.Failed() {
		journal, _ := g.command(context.Background(), "journalctl", "--no-pager", "--lines=200", "--output=short-precise").CombinedOutput()
		g.t.Logf("the guest's journal:\n%s", journal)
	}
	if g.leader != 0 {
		_ = syscall.Kill(g.leader, powerOff)
	}
	select {
	case <-g.ended:
	case <-time.After(stopLimit):
		_ = g.host.Process.Kill()
		<-g.ended
		g.t.Errorf("the guest did not power off within %v\n%s", stopLimit, &g.said)
	}
	for _, dir := range g.cgroups() {
		removeCgroup(dir)
	}
}

// removeCgroup removes a tree of cgroups, the deepest first; what still has processes stays.
func removeCgroup(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if entry.IsDir() {
			removeCgroup(filepath.Join(dir, entry.Name()))
		}
	}
	_ = os.Remove(dir)
}

// Path names a file of the guest for this machine. A symbolic link on the way would lead astray.
func (g *Guest) Path(path string) string {
	return fmt.Sprintf("/proc/%d/root%s", g.leader, path)
}

// Write puts a file into the guest, replacing what is there as a package manager does, and makes
// its directory.
func (g *Guest) Write(path, content string, mode fs.FileMode) {
	g.t.Helper()
	at := g.Path(path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(at+".new", []byte(content), mode); err != nil {
		g.t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(at+".new", mode), os.Rename(at+".new", at)); err != nil {
		g.t.Fatal(err)
	}
}

// Copy puts a file of this machine into the guest.
func (g *Guest) Copy(from, path string, mode fs.FileMode) {
	g.t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		g.t.Fatal(err)
	}
	g.Write(path, string(content), mode)
}
