package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/agent/config"
)

// mount gives a test a file system of its own, or binds one there.
func mountAt(t *testing.T, source, at, kind, options string) {
	t.Helper()
	needRoot(t)
	flags := uintptr(0)
	if kind == "" {
		flags = unix.MS_BIND
	}
	err := unix.Mount(source, at, kind, flags, options)
	if errors.Is(err, unix.EPERM) {
		t.Skip("mounting needs a privilege that root lacks here")
	}
	must(t, err)
	t.Cleanup(func() { must(t, unix.Unmount(at, unix.MNT_DETACH)) })
}

func mounted(t *testing.T, kind, options string) string {
	t.Helper()
	dir := filepath.Join(openTemp(t), "mount")
	must(t, os.Mkdir(dir, 0o755))
	mountAt(t, "credagent-test", dir, kind, options)
	return dir
}

// TestSinkThatIsAMount binds a file to the sink's path. Writing it would fail for ever.
func TestSinkThatIsAMount(t *testing.T) {
	dir := openTemp(t)
	path := write(t, filepath.Join(dir, "run", "token"), "x", 0o644)
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(filepath.Dir(path), link))
	mountAt(t, write(t, filepath.Join(dir, "source"), "y", 0o644), path, "", "")
	e := newExam(configOf(sinkAt(path), sinkAt(filepath.Join(link, "token"))))
	expected := want{Problem, quote(path) + " is a bind mount of a single file", "device or resource busy", "mount its directory"}
	check(t, e.mounts(t.Context()), expected, expected)
}

func TestFileSystemOf(t *testing.T) {
	for kind, wanted := range map[string]fileSystem{"tmpfs": {name: "tmpfs", memory: true}, "ramfs": {name: "ramfs", memory: true}} {
		if got := fileSystemOf(mounted(t, kind, "mode=0755")); got != wanted {
			t.Errorf("%s is %+v", kind, got)
		}
	}
	if got := fileSystemOf("/no/such/path"); got != (fileSystem{}) {
		t.Errorf("no path is on %+v", got)
	}
}

func TestFileSystemsOfSinksAndState(t *testing.T) {
	remote, layer := fileSystem{name: "NFS", remote: true}, fileSystem{name: "overlay", layer: true}
	disk, memory := fileSystem{name: "ext4", disk: true}, fileSystem{name: "tmpfs", memory: true}
	check(t, forSink(remote), want{Warning, "on NFS, which tells of no change", "keeps the old token", "open the file anew"})
	check(t, forSink(layer), want{Note, "the container's own layer", "no other container", "mount a volume in memory"})
	check(t, forSink(disk), want{Note, "on a disk (ext4)", "backups", "tmpfs"})
	check(t, forSink(memory))
	check(t, forSink(fileSystem{}))
	check(t, forState(remote), want{Note, "on NFS", "waits for the network", "a disk of the host"})
	check(t, forState(memory), want{Note, "in memory (tmpfs)", "not one of the machine", ""})
	check(t, forState(disk))

	cfg := configOf(sinkAt(filepath.Join(mounted(t, "tmpfs", "mode=0755"), "token")))
	cfg.State = &config.State{Dir: mounted(t, "tmpfs", "mode=0700")}
	found := newExam(cfg).fileSystems(t.Context())
	check(t, found, want{Note, "in memory (tmpfs)", "", ""})
	if found[0].About[0] != "state" {
		t.Errorf("it is about %q", found[0].About)
	}
}

func TestWrites(t *testing.T) {
	full := mounted(t, "tmpfs", "nr_inodes=1,mode=0755")
	still := mounted(t, "tmpfs", "mode=0755")
	must(t, unix.Mount("credagent-test", still, "", unix.MS_REMOUNT|unix.MS_RDONLY, "mode=0755"))
	ownerless := mounted(t, "ramfs", "mode=0755")
	fine := mounted(t, "tmpfs", "mode=0755")
	with := func(dir string, change func(*config.Sink)) config.Sink {
		s := sinkAt(filepath.Join(dir, "token"))
		change(&s)
		return s
	}
	reader := func(s *config.Sink) { s.Readers = []config.Principal{{User: "4001"}} }
	for name, tc := range map[string]struct {
		sink config.Sink
		want []want
	}{
		"fine":              {sinkAt(filepath.Join(fine, "token")), nil},
		"all that there is": {with(fine, func(s *config.Sink) { reader(s); s.Owner, s.Group, s.Mode = "4001", "4002", 0o640 }), nil},
		"full":              {sinkAt(filepath.Join(full, "token")), []want{{Problem, "cannot be written beside it: no space left on device", "not get its token", "free some space"}}},
		"read-only":         {sinkAt(filepath.Join(still, "token")), []want{{Problem, "read-only file system", "", "ReadWritePaths="}}},
		"no ACLs":           {with(ownerless, reader), []want{{Problem, "setting its readers: operation not supported", "", "no POSIX ACLs"}}},
		"unknown owner":     {with(fine, func(s *config.Sink) { s.Owner = "no-such-user" }), []want{{Problem, `looking up owner "no-such-user": no such user`, "", "check the name"}}},
		"missing":           {sinkAt(filepath.Join(fine, "no", "token")), nil}, // another check says so
	} {
		t.Run(name, func(t *testing.T) {
			check(t, newExam(configOf(tc.sink)).writes(t.Context()), tc.want...)
		})
	}
	for _, dir := range []string{full, fine, ownerless} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%s was left with %v, %v", dir, entries, err)
		}
	}
}

func TestWatched(t *testing.T) {
	dir := openTemp(t)
	move := func() error {
		return os.Rename(write(t, filepath.Join(dir, "new"), "x", 0o600), filepath.Join(dir, "file"))
	}
	failure := errors.New("no space left on device")
	for name, tc := range map[string]struct {
		change func() error
		told   bool
		err    error
	}{
		"a file is replaced": {move, true, nil},
		"nothing happens":    {func() error { return nil }, false, nil},
		"it fails":           {func() error { return failure }, false, failure},
	} {
		t.Run(name, func(t *testing.T) {
			if told, err := watched(dir, tc.change); told != tc.told || !errors.Is(err, tc.err) {
				t.Errorf("watched() = %t, %v, want %t, %v", told, err, tc.told, tc.err)
			}
		})
	}
}

func TestDirectoryOfSomebodyElse(t *testing.T) {
	err := &fs.PathError{Op: "mkdir", Path: "/run/x/probe", Err: unix.EACCES}
	check(t, []Finding{refused(err, "/run/x")}, want{Problem, `may not write to directory "/run/x"`, "not get its token", `as the agent's user, or make the directory that user's: chown USER "/run/x"`})
}

func TestKernel(t *testing.T) {
	failing := func(err error) func(int) (int, error) { return func(int) (int, error) { return -1, err } }
	e := newExam(config.Config{})
	e.proc = t.TempDir()
	write(t, filepath.Join(e.proc, "sys", "fs", "inotify", "max_user_instances"), "128\n", 0o600)
	check(t, e.notifies(unix.InotifyInit1))
	check(t, e.notifies(failing(unix.EMFILE)), want{Warning, "(inotify): too many open files", "within half a minute", "raise fs.inotify.max_user_instances above its 128: sysctl"})
	check(t, e.notifies(failing(unix.ENOSPC)), want{Warning, "no space left", "", "raise fs.inotify.max_user_watches"})
	check(t, e.notifies(failing(unix.ENOSYS)), want{Warning, "function not implemented", "", ""})

	check(t, runs(unix.MemfdCreate))
	check(t, runs(func(_ string, flags int) (int, error) {
		if flags&unix.MFD_EXEC != 0 {
			return -1, unix.EINVAL
		}
		return unix.MemfdCreate("old", flags)
	}))
	check(t, runs(func(string, int) (int, error) { return -1, unix.EACCES }), want{Problem, "lets no memory be run (memfd_create): permission denied", "will not start", "vm.memfd_noexec=1"})

	clock := func(status int32) func(*unix.Timex) (int, error) {
		return func(x *unix.Timex) (int, error) { x.Status = status; return 0, nil }
	}
	check(t, disciplined(clock(unix.STA_PLL)))
	check(t, disciplined(clock(unix.STA_UNSYNC)), want{Note, "keeps this host's clock right", "drifts", "set-ntp"})
	check(t, disciplined(func(*unix.Timex) (int, error) { return 0, unix.EPERM }))
}

// TestPinsNeedMemoryThatRuns: without a pin nobody needs it.
func TestPinsNeedMemoryThatRuns(t *testing.T) {
	for _, pins := range []map[string]string{nil, {"vaultcred": "00"}} {
		for _, f := range newExam(config.Config{Plugins: config.Plugins{SHA256: pins}}).kernel(t.Context()) {
			if f.Level == Problem {
				t.Errorf("%+v", f)
			}
		}
	}
}
