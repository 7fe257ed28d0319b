package credfile

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

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

// What is no file ends in an error that says so, and nothing waits for ever.
func TestReadWhatIsNoFile(t *testing.T) {
	for name, tc := range map[string]struct {
		make func(path string) error
		want string
	}{
		"a pipe that nobody writes into": {func(path string) error { return unix.Mkfifo(path, 0o600) }, "it is a pipe, and nobody wrote a credential into it"},
		"a link to such a pipe": {func(path string) error {
			return errors.Join(unix.Mkfifo(path+".pipe", 0o600), os.Symlink(path+".pipe", path))
		}, "it is a pipe"},
		"a pipe that is held open": {func(path string) error {
			err := unix.Mkfifo(path, 0o600)
			writer, openErr := os.OpenFile(path, os.O_RDWR, 0)
			if openErr == nil {
				t.Cleanup(func() { _ = writer.Close() })
			}
			return errors.Join(err, openErr)
		}, "it is a pipe"},
		"a directory":       {func(path string) error { return os.Mkdir(path, 0o700) }, "it is a directory; name a file in it"},
		"a device":          {func(path string) error { return os.Symlink("/dev/zero", path) }, "it is a device; name a regular file"},
		"nothing's device":  {func(path string) error { return os.Symlink("/dev/null", path) }, "it is a device; name a regular file"},
		"a socket":          {func(path string) error { return bound(t, path) }, "it is a socket"},
		"a link to itself":  {func(path string) error { return os.Symlink(path, path) }, "too many levels of symbolic links"},
		"an empty pipe end": {func(path string) error { return os.Symlink("/dev/fd/9999", path) }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "secret")
			if err := tc.make(path); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			_, err := Read("certificate_file", path)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "certificate_file") {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if took := time.Since(begun); took > 2*pipeTimeout {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// bound makes a socket at a path.
func bound(t *testing.T, path string) error {
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err == nil {
		t.Cleanup(func() { _ = l.Close() })
	}
	return err
}
