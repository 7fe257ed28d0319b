//go:build unix

package hoststate

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestUnusableDirectories(t *testing.T) {
	tests := map[string]struct {
		prepare func(dir string) error
		want    string
	}{
		"missing":      {os.Remove, "no such file"},
		"a file":       {func(dir string) error { return os.WriteFile(filepath.Join(dir, subdirectory), nil, 0o600) }, "not a directory"},
		"a link":       {func(dir string) error { return os.Symlink("/tmp", filepath.Join(dir, subdirectory)) }, "not a directory"},
		"open to all":  {func(dir string) error { return mkdir(filepath.Join(dir, subdirectory), 0o755) }, "chmod 0700"},
		"open to some": {func(dir string) error { return mkdir(filepath.Join(dir, subdirectory), 0o710) }, "chmod 0700"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := test.prepare(dir); err != nil {
				t.Fatal(err)
			}
			s, err := Open(Options{Runtime: []string{dir}, Probe: true})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("Open = %v, want %q", err, test.want)
			}
			if err := s.Extend(key.endpoint, key.clientID, time.Now().Add(time.Hour)); err != nil {
				t.Errorf("a store of nothing refuses a wait: %v", err)
			}
			if until, err := s.Until(key.endpoint, key.clientID); err != nil || !until.IsZero() {
				t.Errorf("a store of nothing knows a wait: %v, %v", until, err)
			}
		})
	}
}

func mkdir(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func TestRootSharesWithTheServicesUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a directory away needs root")
	}
	const user = 4242
	dir := t.TempDir()
	if err := os.Chown(dir, user, -1); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir, nil).Extend(key.endpoint, key.clientID, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", fileOf(key.endpoint, key.clientID), lockName} {
		info, err := os.Lstat(filepath.Join(dir, subdirectory, name))
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != user {
			t.Errorf("%q belongs to %d, want %d", name, uid, user)
		}
	}
}

func TestDirectoryOfSomebodyElseIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a directory away needs root")
	}
	dir := t.TempDir()
	sub := filepath.Join(dir, subdirectory)
	if err := mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(sub, 4242, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Runtime: []string{dir}, Probe: true}); err == nil || !strings.Contains(err.Error(), "belongs to user 4242") {
		t.Errorf("Open = %v", err)
	}
}

// TestHardLinkStaysWhoseItIs: the unprivileged owner of the directory has put somebody else's file there, and
// root does not give it away.
func TestHardLinkStaysWhoseItIs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	const user = 4242
	for _, name := range []string{lockName, claimsName} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir, theirs := filepath.Join(base, "run"), filepath.Join(base, "theirs")
			sub := filepath.Join(dir, subdirectory)
			for _, err := range []error{
				mkdir(dir, 0o755), mkdir(sub, 0o700), os.Chown(dir, user, -1), os.Chown(sub, user, -1),
				os.WriteFile(theirs, []byte("root's"), 0o600), os.Link(theirs, filepath.Join(sub, name)),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			s, err := Open(Options{Runtime: []string{dir}})
			if s != nil {
				defer s.Close()
			}
			if name == lockName && (err == nil || !strings.Contains(err.Error(), "has another name elsewhere") || !strings.Contains(err.Error(), "run: rm ")) {
				t.Errorf("Open = %v", err)
			}
			info, err := os.Stat(theirs)
			if err != nil {
				t.Fatal(err)
			}
			if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 {
				t.Errorf("it belongs to user %d now", uid)
			}
		})
	}
}
