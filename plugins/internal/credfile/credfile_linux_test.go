package credfile

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadWithoutPermission(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("canary"), 0o000); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		// For this thread's file access alone, root becomes nobody.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		const nobody = 65534
		if err := unix.Setfsuid(nobody); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Setfsuid(0) }()
	}
	_, err := Read("secret_file", path)
	if err == nil || !strings.Contains(err.Error(), "permission denied; let the agent's user (uid ") {
		t.Errorf("error %v", err)
	}
}

// Secrets come through pipes and from file systems whose files have no size, too.
func TestReadWhatHasNoSize(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { _ = os.WriteFile(pipe, []byte("sesame\n"), 0) }()
	if got, err := ReadLine("secret_file", pipe); err != nil || got.Reveal() != "sesame" {
		t.Errorf("from a pipe: %q, %v", got.Reveal(), err)
	}
	if data, err := Read("secret_file", "/proc/self/cmdline"); err != nil || !strings.HasPrefix(string(data), os.Args[0]) {
		t.Errorf("from /proc: %q, %v", data, err)
	}
}
