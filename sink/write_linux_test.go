package sink_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/sink"
)

const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("giving files away, and mounting, needs root")
	}
}

// mount gives a test a file system of its own; remount changes its flags.
func mount(t *testing.T, kind, options string) (dir string, remount func(flags uintptr)) {
	t.Helper()
	needRoot(t)
	dir = filepath.Join(t.TempDir(), "mount")
	must(t, os.Mkdir(dir, 0o755))
	err := unix.Mount("credagent-test", dir, kind, 0, options)
	if errors.Is(err, unix.EPERM) {
		t.Skip("mounting needs a privilege that root lacks here")
	}
	must(t, err)
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir, func(flags uintptr) {
		t.Helper()
		must(t, unix.Mount("credagent-test", dir, "", unix.MS_REMOUNT|flags, options))
	}
}

// openTemp is a directory that other users can reach.
func openTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sink")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

func wantOwner(t *testing.T, path string, uid, gid uint32) {
	t.Helper()
	if s := stat(t, path).Sys().(*syscall.Stat_t); s.Uid != uid || s.Gid != gid {
		t.Errorf("owner is %d:%d, want %d:%d", s.Uid, s.Gid, uid, gid)
	}
}

// nameOf finds the name of user or group number id, which every system has.
func nameOf(t *testing.T, kind string, id int) string {
	t.Helper()
	number := strconv.Itoa(id)
	if kind == "user" {
		u, err := user.LookupId(number)
		must(t, err)
		return u.Username
	}
	g, err := user.LookupGroupId(number)
	must(t, err)
	return g.Name
}

func TestOwner(t *testing.T) {
	needRoot(t)
	for name, tc := range map[string]struct {
		owner, group string
		uid, gid     uint32
	}{
		"names":      {nameOf(t, "user", 1), nameOf(t, "group", 1), 1, 1},
		"numbers":    {"65533", "65532", 65533, 65532},
		"owner only": {"65533", "", 65533, 0},
		"group only": {"", "65532", 0, 65532},
		"neither":    {"", "", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			f := newSink(t, sink.Options{Path: path, Owner: tc.owner, Group: tc.group, Mode: 0o640})
			write(t, f, "one", sink.Written)
			wantOwner(t, path, tc.uid, tc.gid)
			must(t, os.Chown(path, 4242, 4242))
			wantHolds(t, f, "one", false)
			write(t, f, "one", sink.Mended)
			wantOwner(t, path, tc.uid, tc.gid) // what is not configured is this process's
			write(t, f, "one", sink.Unchanged)
			if got := stat(t, path).Mode(); got != 0o640 {
				t.Errorf("mode is %s", got)
			}
		})
	}
}

// A file of somebody else's that cannot be taken over is replaced, and what the next ones are to be is not
// learnt from it.
func TestFileThatCannotBeTakenOverIsReplaced(t *testing.T) {
	needRoot(t)
	path := filepath.Join(t.TempDir(), "token")
	f := newSink(t, sink.Options{Path: path, Mode: 0o640})
	write(t, f, "one", sink.Written)
	must(t, os.Chown(path, 4242, 4242))
	withoutChown(t, func() {
		write(t, f, "one", sink.Written)
		wantOwner(t, path, 0, 0)
		wantHolds(t, f, "one", true)
	})
}

// Where the file system decides whose files are, a file that was just made shows it.
func TestFileSystemThatDecidesWhoseFilesAre(t *testing.T) {
	needRoot(t)
	bindfs, err := exec.LookPath("bindfs")
	if err != nil {
		t.Skip("bindfs is missing: apt-get install bindfs")
	}
	under, dir := t.TempDir(), t.TempDir()
	if out, err := exec.Command(bindfs, "--force-group=4242", "--chgrp-deny", under, dir).CombinedOutput(); err != nil {
		t.Skipf("no user-space file system can be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	path := filepath.Join(dir, "token")
	f := newSink(t, sink.Options{Path: path, Mode: 0o640})
	write(t, f, "one", sink.Written)
	wantOwner(t, path, 0, 4242)
	wantHolds(t, f, "one", true)
	write(t, f, "one", sink.Unchanged)
	write(t, f, "two", sink.Written)
	again := newSink(t, sink.Options{Path: path, Mode: 0o640}) // after a restart, it is learnt anew
	write(t, again, "two", sink.Written)
	write(t, again, "two", sink.Unchanged)
}

// withoutChown does something in a thread that may give no files away, as in a container.
func withoutChown(t *testing.T, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var held [2]unix.CapUserData
		must(t, unix.Capget(&header, &held[0]))
		held[0].Effective &^= 1 << unix.CAP_CHOWN
		must(t, unix.Capset(&header, &held[0]))
		do()
	}()
	<-done
}

// readAs reports whether a process of this user and group can read the file.
func readAs(t *testing.T, path string, uid, gid uint32) bool {
	t.Helper()
	cmd := exec.Command("cat", path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	return cmd.Run() == nil
}

func TestReaders(t *testing.T) {
	needRoot(t)
	path := filepath.Join(openTemp(t), "token")
	f := newSink(t, sink.Options{
		Path: path, Mode: 0o600, Owner: "4001", Group: "4002",
		Readers: []sink.Principal{{Group: "4006"}, {User: "4005"}, {User: "4003"}, {User: "4005"}},
	})
	write(t, f, "one", sink.Written)
	check := func() {
		t.Helper()
		if got := stat(t, path).Mode(); got != 0o640 {
			t.Errorf("mode is %s, want the mask in the group bits", got)
		}
		for name, tc := range map[string]struct {
			uid, gid uint32
			want     bool
		}{
			"owner": {4001, 9, true}, "owning group": {9, 4002, false}, "first user": {4003, 9, true},
			"second user": {4005, 9, true}, "group": {9, 4006, true}, "other": {9, 9, false},
		} {
			if got := readAs(t, path, tc.uid, tc.gid); got != tc.want {
				t.Errorf("%s reads: %t, want %t", name, got, tc.want)
			}
		}
	}
	check()
	write(t, f, "one", sink.Unchanged)
	for name, drift := range map[string]func() error{
		"removed":  func() error { return unix.Removexattr(path, accessACL) },
		"chmod":    func() error { return os.Chmod(path, 0o600) },
		"wider":    func() error { return os.Chmod(path, 0o666) },
		"set-user": func() error { return os.Chmod(path, 0o640|fs.ModeSetuid) },
		"chown":    func() error { return os.Chown(path, 0, 0) },
	} {
		must(t, drift())
		wantHolds(t, f, "one", false)
		write(t, f, "one", sink.Mended)
		check()
		if t.Failed() {
			t.Fatalf("drift %q was not mended", name)
		}
	}
	write(t, f, "two", sink.Written)
	check()
}

func TestReadersAsGetfaclShowsThem(t *testing.T) {
	getfacl, err := exec.LookPath("getfacl")
	if err != nil {
		t.Skip("getfacl is not installed")
	}
	path := filepath.Join(t.TempDir(), "token")
	f := newSink(t, sink.Options{Path: path, Mode: 0o640, Readers: []sink.Principal{{User: "4003"}, {Group: "4006"}}})
	write(t, f, "one", sink.Written)
	out, err := exec.Command(getfacl, "--omit-header", "--numeric", "--absolute-names", path).Output()
	must(t, err)
	want := "user::rw-\nuser:4003:r--\ngroup::r--\ngroup:4006:r--\nmask::r--\nother::---\n\n"
	if string(out) != want {
		t.Errorf("getfacl says\n%swant\n%s", out, want)
	}
}

func TestRefusedReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for name, tc := range map[string]struct {
		reader sink.Principal
		want   string
	}{
		"neither":       {sink.Principal{}, "either a user or a group"},
		"both":          {sink.Principal{User: "1", Group: "1"}, "either a user or a group"},
		"unknown user":  {sink.Principal{User: "no-such-user"}, `reader "no-such-user": no such user`},
		"unknown group": {sink.Principal{Group: "no-such-group"}, `reader "no-such-group": no such group`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sink.New(sink.Options{Path: path, Renderer: sink.Raw("graph"), Readers: []sink.Principal{tc.reader}})
			wantError(t, err, tc.want)
		})
	}
}

func TestReadersNeedAFileSystemWithACLs(t *testing.T) {
	dir, _ := mount(t, "ramfs", "mode=0755")
	f := newSink(t, sink.Options{Path: filepath.Join(dir, "token"), Readers: []sink.Principal{{User: "4003"}}})
	_, err := f.Write(having(graph("one")))
	wantError(t, err, "setting its readers", "no POSIX ACLs")
	wantEntries(t, dir)
	write(t, newSink(t, sink.Options{Path: filepath.Join(dir, "token")}), "one", sink.Written)
}

// TestDefaultACLGivesNobodyAccess: a directory's default ACL adds entries to every new file.
func TestDefaultACLGivesNobodyAccess(t *testing.T) {
	needRoot(t)
	for name, readers := range map[string][]sink.Principal{"no readers": nil, "a reader": {{User: "4003"}}} {
		t.Run(name, func(t *testing.T) {
			dir := openTemp(t)
			donor := filepath.Join(dir, "donor")
			write(t, newSink(t, sink.Options{Path: donor, Readers: []sink.Principal{{User: "4009"}}}), "x", sink.Written)
			acl := make([]byte, 200)
			n, err := unix.Getxattr(donor, accessACL, acl)
			must(t, err)
			must(t, unix.Setxattr(dir, defaultACL, acl[:n], 0))

			path := filepath.Join(dir, "token")
			f := newSink(t, sink.Options{Path: path, Mode: 0o640, Readers: readers})
			write(t, f, "one", sink.Written)
			write(t, f, "one", sink.Unchanged)
			if readAs(t, path, 4009, 9) {
				t.Error("the directory's default ACL lets a user read")
			}
			if got := stat(t, path).Mode(); got != 0o640 {
				t.Errorf("mode is %s", got)
			}
			must(t, unix.Setxattr(path, accessACL, acl[:n], 0))
			write(t, f, "one", sink.Mended)
			if readAs(t, path, 4009, 9) || readAs(t, path, 4003, 9) != (readers != nil) {
				t.Error("an added ACL was not mended")
			}
		})
	}
}

func TestFullFileSystem(t *testing.T) {
	dir, _ := mount(t, "tmpfs", "size=64k,mode=0755")
	path := filepath.Join(dir, "token")
	f := newSink(t, sink.Options{Path: path})
	write(t, f, "one", sink.Written)
	filler := filepath.Join(dir, "filler")
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
	for range 3 {
		_, err := f.Write(having(graph("two")))
		wantError(t, err, fmt.Sprintf("writing %q: no space left on device", path))
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("the cause is lost: %v", err)
		}
		wantContent(t, path, "one")
		wantEntries(t, dir, "filler", "token")
	}
	write(t, f, "one", sink.Unchanged)
	must(t, os.Remove(filler))
	write(t, f, "two", sink.Written)
	wantContent(t, path, "two")
}

func TestNoInodesLeft(t *testing.T) {
	dir, _ := mount(t, "tmpfs", "nr_inodes=2,mode=0755")
	path := filepath.Join(dir, "token")
	f := newSink(t, sink.Options{Path: path})
	write(t, f, "one", sink.Written)
	_, err := f.Write(having(graph("two")))
	wantError(t, err, "creating a temporary file beside it: no space left on device")
	wantContent(t, path, "one")
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir, remount := mount(t, "tmpfs", "size=64k,mode=0755")
	path := filepath.Join(dir, "token")
	f := newSink(t, sink.Options{Path: path})
	write(t, f, "one", sink.Written)
	must(t, os.WriteFile(filepath.Join(dir, ".credagent-token-0123456789abcdef"), nil, 0o600))
	remount(unix.MS_RDONLY)
	_, err := f.Write(having(graph("two")))
	wantError(t, err, fmt.Sprintf("writing %q: ", path), "read-only file system")
	wantContent(t, path, "one")
	write(t, newSink(t, sink.Options{Path: path}), "one", sink.Unchanged)

	remount(0)
	write(t, newSink(t, sink.Options{Path: path}), "two", sink.Written)
	wantContent(t, path, "two")
	wantEntries(t, dir, "token")
}

// unprivileged runs a test again as a process of another user, in its own directory.
func unprivileged(t *testing.T, dir string) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	must(t, os.Chown(dir, 4001, 4001))
	binary := filepath.Join(openTemp(t), "sink.test")
	data, err := os.ReadFile(os.Args[0])
	must(t, err)
	must(t, os.WriteFile(binary, data, 0o755))
	cmd := exec.Command(binary, "-test.run=^"+t.Name()+"$")
	cmd.Dir = dir
	cmd.Env = []string{"TMPDIR=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4001, Gid: 4001}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || strings.Contains(out.String(), "no tests to run") {
		t.Errorf("as user 4001: %v\n%s", err, &out)
	}
	return false
}

func TestUnprivileged(t *testing.T) {
	dir := openTemp(t)
	if !unprivileged(t, dir) {
		return
	}
	path := filepath.Join(dir, "token")
	f := newSink(t, sink.Options{Path: path, Mode: 0o600, Readers: []sink.Principal{{User: "4003"}}})
	write(t, f, "one", sink.Written)

	must(t, os.Chmod(path, 0))
	write(t, f, "one", sink.Written) // it cannot be read, so it is replaced
	_, err := newSink(t, sink.Options{Path: path, Owner: "4242"}).Write(having(graph("two")))
	wantError(t, err, "changing its owner to user 4242", "operation not permitted", "CAP_CHOWN")
	_, err = newSink(t, sink.Options{Path: path, Owner: "4242", Group: "4243"}).Write(having(graph("two")))
	wantError(t, err, "changing its owner to user 4242, group 4243")
	wantContent(t, path, "one")

	must(t, os.Chmod(dir, 0o555))
	defer os.Chmod(dir, 0o755)
	_, err = f.Write(having(graph("two")))
	wantError(t, err, "creating a temporary file beside it: permission denied")
	wantContent(t, path, "one")
	wantEntries(t, dir, "token")
}
