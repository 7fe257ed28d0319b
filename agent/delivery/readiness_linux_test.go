package delivery

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/sink"
)

// mark makes a file or directory one that nobody may change, root included, or takes that back.
func mark(t *testing.T, path string, immutable bool) {
	t.Helper()
	const flag = 0x10 // FS_IMMUTABLE_FL
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	flags, err := unix.IoctlGetInt(int(file.Fd()), unix.FS_IOC_GETFLAGS)
	if immutable {
		flags |= flag
	} else {
		flags &^= flag
	}
	if err == nil {
		err = unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) {
		t.Skip("the file system has no such mark, or may not be given it")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// spoiling is something that is done to a sink's file and that the agent cannot repair.
type spoiling struct {
	spoil func(t *testing.T, path string) error
	mend  func(t *testing.T, path string) error // nil for removing what is in its place
}

// inItsPlace are things that are no file of the agent's.
func inItsPlace() map[string]spoiling {
	return map[string]spoiling{
		"a link to a good copy": {spoil: func(_ *testing.T, path string) error {
			return errors.Join(os.Rename(path, path+".copy"), os.Symlink(path+".copy", path))
		}},
		"a link to nowhere": {spoil: func(_ *testing.T, path string) error {
			return errors.Join(os.Remove(path), os.Symlink("nowhere", path))
		}},
		"a directory": {spoil: func(_ *testing.T, path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o755))
		}},
		"a pipe": {spoil: func(_ *testing.T, path string) error {
			return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600))
		}},
		"a device": {spoil: func(t *testing.T, path string) error {
			err := errors.Join(os.Remove(path), unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
			if errors.Is(err, fs.ErrPermission) {
				t.Skip("making a device needs root, with its privileges")
			}
			return err
		}},
	}
}

// aroundIt are hosts that do not let the agent write.
func aroundIt() map[string]spoiling {
	return map[string]spoiling{
		"garbage that cannot be changed": {
			spoil: func(t *testing.T, path string) error {
				err := os.WriteFile(path, []byte("garbage"), 0o600)
				mark(t, path, true)
				return err
			},
			mend: func(t *testing.T, path string) error { mark(t, path, false); return nil },
		},
		"nothing, in a directory that cannot be changed": {
			spoil: func(t *testing.T, path string) error {
				err := os.Remove(path)
				mark(t, filepath.Dir(path), true)
				return err
			},
			mend: func(t *testing.T, path string) error { mark(t, filepath.Dir(path), false); return nil },
		},
		"no directory": {
			spoil: func(_ *testing.T, path string) error {
				return os.Rename(filepath.Dir(filepath.Dir(path)), filepath.Dir(filepath.Dir(path))+".gone")
			},
			mend: func(_ *testing.T, path string) error {
				return os.Rename(filepath.Dir(filepath.Dir(path))+".gone", filepath.Dir(filepath.Dir(path)))
			},
		},
		"a directory that everybody may write to": {
			spoil: func(_ *testing.T, path string) error { return os.Chmod(filepath.Dir(path), 0o777) },
			mend:  func(_ *testing.T, path string) error { return os.Chmod(filepath.Dir(path), 0o755) },
		},
		"a file in its directory's place": {
			spoil: func(_ *testing.T, path string) error {
				dir := filepath.Dir(path)
				return errors.Join(os.Rename(dir, dir+".gone"), os.WriteFile(dir, nil, 0o600))
			},
			mend: func(_ *testing.T, path string) error {
				dir := filepath.Dir(path)
				return errors.Join(os.Remove(dir), os.Rename(dir+".gone", dir))
			},
		},
	}
}

// A sink's file is spoilt in a way that the agent cannot repair: it is not held until it is right again.
func TestReadinessOfAFile(t *testing.T) {
	all := inItsPlace()
	maps.Copy(all, aroundIt())
	for name, tc := range all {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "above", "run", "token")
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unmark(path); unmark(filepath.Dir(path)) })
			synctest.Test(t, func(t *testing.T) {
				file, err := openFile(new(sink.Batch), config.Sink{Type: config.SinkFile, Format: sink.FormatRaw, Path: path, Mode: 0o600, Token: "graph"})
				if err != nil {
					t.Fatal(err)
				}
				tokens := &issued{}
				tokens.issue("graph", "one", time.Hour)
				w := writing(file, tokens)
				defer w.Stop(t.Context())
				w.Start()
				wantHeld(t, w, true)
				if err := tc.spoil(t, path); err != nil {
					t.Fatal(err)
				}
				w.Check()
				wantHeld(t, w, false)
				pass(3 * time.Minute) // of retries
				wantHeld(t, w, false)
				if tc.mend == nil {
					err = os.Remove(path)
				} else {
					err = tc.mend(t, path)
				}
				if err != nil {
					t.Fatal(err)
				}
				pass(2 * time.Minute)
				wantHeld(t, w, true)
				if content, err := os.ReadFile(path); string(content) != "one" {
					t.Errorf("it holds %q, %v", content, err)
				}
			})
		})
	}
}

// unmark is mark for a test that has ended.
func unmark(path string) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer file.Close()
	if flags, err := unix.IoctlGetInt(int(file.Fd()), unix.FS_IOC_GETFLAGS); err == nil && flags&0x10 != 0 {
		_ = unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, flags&^0x10)
	}
}

func wantHeld(t *testing.T, w *Writer, want bool) {
	t.Helper()
	synctest.Wait()
	st := w.Status()
	if w.UpToDate() != want || st.Holds != want || (st.LastError == "") != want {
		t.Errorf("held: %v, status %+v; want %v", w.UpToDate(), st, want)
	}
}

// Of an expired token the file keeps what somebody else put there, whatever that is.
func TestExpiredTokensTouchNoFile(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(path string) error
		want   string
		mode   fs.FileMode
		holds  bool
	}{
		"nothing": {func(string) error { return nil }, "one", 0o600, true},
		"replaced": {func(path string) error {
			return errors.Join(os.WriteFile(path+"~", []byte("by hand"), 0o640), os.Rename(path+"~", path))
		}, "by hand", 0o640, false},
		"written over": {func(path string) error { return os.WriteFile(path, []byte("by hand"), 0) }, "by hand", 0o600, false},
		"its mode":     {func(path string) error { return os.Chmod(path, 0o644) }, "one", 0o600, true},
		"mode of another": {func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("two"), 0), os.Chmod(path, 0o644))
		}, "two", 0o644, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			synctest.Test(t, func(t *testing.T) {
				file, err := openFile(new(sink.Batch), config.Sink{Type: config.SinkFile, Format: sink.FormatRaw, Path: path, Mode: 0o600, Token: "graph"})
				if err != nil {
					t.Fatal(err)
				}
				tokens := &issued{}
				tokens.issue("graph", "one", time.Minute)
				w := writing(file, tokens)
				defer w.Stop(t.Context())
				w.Start()
				pass(time.Minute)
				if err := tc.change(path); err != nil {
					t.Fatal(err)
				}
				before, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				w.Check()
				w.Notify()
				synctest.Wait()
				content, _ := os.ReadFile(path)
				after, err := os.Stat(path)
				if err != nil || string(content) != tc.want || after.Mode() != tc.mode || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
					t.Errorf("it holds %q with mode %v, %v", content, after.Mode(), err)
				}
				if st := w.Status(); st.Holds != tc.holds || !st.Expired {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}
