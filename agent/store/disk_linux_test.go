package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// mountedStore is a store on a file system of its own; remount changes that one's flags.
func mountedStore(t *testing.T, options string) (s *Store, remount func(flags uintptr)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := filepath.Join(t.TempDir(), "mount")
	must(t, os.Mkdir(dir, 0o755))
	err := unix.Mount("credagent-test", dir, "tmpfs", 0, options)
	if errors.Is(err, unix.EPERM) {
		t.Skip("mounting needs a privilege that root lacks here")
	}
	must(t, err)
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	s, err = Open(filepath.Join(dir, "state"), writeKey(t))
	must(t, err)
	return s, func(flags uintptr) {
		t.Helper()
		must(t, unix.Mount("credagent-test", dir, "", unix.MS_REMOUNT|flags, options))
	}
}

func TestFullDisk(t *testing.T) {
	s, _ := mountedStore(t, "size=64k,mode=0755")
	must(t, s.Save("graph", sample("graph")))
	filler := filepath.Join(filepath.Dir(s.dir), "filler")
	for {
		file, err := os.OpenFile(filler, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		must(t, err)
		_, err = file.Write(make([]byte, 4096))
		must(t, file.Close())
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		must(t, err)
	}
	changed := sample("graph")
	changed.Credential.Identity = "another"
	for range 3 {
		err := s.Save("graph", changed)
		wantError(t, err, `saving the state of token "graph": writing`, "no space left on device")
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("the cause is lost: %v", err)
		}
		checkIdentity(t, s, sample("graph").Credential.Identity)
		if got := entries(t, s.dir); got != "graph.age" {
			t.Errorf("the directory has %q", got)
		}
	}
	must(t, os.Remove(filler))
	must(t, s.Save("graph", changed))
	checkIdentity(t, s, "another")
}

func checkIdentity(t *testing.T, s *Store, want string) {
	t.Helper()
	r, err := s.Load("graph")
	must(t, err)
	if r.Credential.Identity != want {
		t.Errorf("the record is that of credential %q, want %q", r.Credential.Identity, want)
	}
}

func TestReadOnlyDisk(t *testing.T) {
	s, remount := mountedStore(t, "size=64k,mode=0755")
	must(t, s.Save("graph", sample("graph")))
	must(t, os.WriteFile(filepath.Join(s.dir, ".credagent-graph.age-0123456789abcdef"), nil, 0o600))
	remount(unix.MS_RDONLY)
	wantError(t, s.Save("graph", sample("graph")), "read-only file system")
	wantError(t, s.Remove("graph"), "read-only file system")
	keyFile := writeKey(t)
	_, err := Open(s.dir, keyFile) // a token that was saved is still of use
	must(t, err)
	checkIdentity(t, s, sample("graph").Credential.Identity)
	remount(0)
	_, err = Open(s.dir, keyFile)
	must(t, err)
	if got := entries(t, s.dir); got != "graph.age" {
		t.Errorf("the directory has %q", got)
	}
}
