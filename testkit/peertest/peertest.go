//go:build unix

// Package peertest runs tests as other users. It starts the test's own executable again, from a directory where
// everybody may run it. It needs root; without, it skips the test.
package peertest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Identity is a user with groups, none of which need exist.
type Identity struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary
}

// Dir returns a directory that everybody may enter.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "credagent-peertest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Command prepares the test's executable to be run by another user, with this test's environment.
func Command(t testing.TB, as Identity, args ...string) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("being user %d needs root, and this test runs as user %d", as.UID, os.Geteuid())
	}
	cmd := exec.CommandContext(t.Context(), executable(t), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: as.UID, Gid: as.GID, Groups: as.Groups},
	}
	return cmd
}

// executable copies the test's executable, whose own directory nobody else may enter, to where everybody may run it.
func executable(t testing.TB) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(Dir(t), "self")
	if os.Link(self, path) != nil { // it is on another file system
		copyFile(t, self, path)
	}
	if err := os.Chmod(path, 0o755); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

func copyFile(t testing.TB, self, path string) {
	t.Helper()
	from, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
}
