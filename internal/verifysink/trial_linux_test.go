package verifysink

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/atomicfile"
)

// wrong is a writer that breaks one promise for a moment at each write.
type wrong struct {
	t    *testing.T
	path string
	last []byte
	n    int
}

// moment is how long a promise is broken: readers look many times in it.
func (w *wrong) moment() { wait(w.t.Context(), 4*time.Millisecond) }

func (w *wrong) put(path string, content []byte, mode os.FileMode) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		w.t.Error(err)
		return
	}
	_, writing := file.Write(content)
	if err := errors.Join(writing, file.Chmod(mode), file.Close()); err != nil {
		w.t.Error(err)
	}
}

func (w *wrong) temporary() string {
	return filepath.Join(filepath.Dir(w.path), atomicfile.Prefix+filepath.Base(w.path)+"-0123456789abcdef")
}

func (w *wrong) replace(content []byte, mode os.FileMode) {
	w.put(w.temporary(), content, mode)
	if err := os.Rename(w.temporary(), w.path); err != nil {
		w.t.Error(err)
	}
}

// wrongWriters each break another promise.
var wrongWriters = map[string]struct {
	write func(w *wrong, content []byte) error
	holds bool
	want  []string
}{
	"in place": {func(w *wrong, content []byte) error {
		w.put(w.path, nil, mode)
		w.moment()
		w.put(w.path, content[:len(content)/2], mode)
		w.moment()
		w.put(w.path, content, mode)
		return nil
	}, false, []string{"problem: torn: ", "problem: empty: ", "warning: notifications: 0 of "}},
	"removes the old one first": {func(w *wrong, content []byte) error {
		_ = os.Remove(w.path)
		w.moment()
		w.replace(content, mode)
		return nil
	}, false, []string{"problem: no file: ", "ok:      torn: 0"}},
	"for everybody at first": {func(w *wrong, content []byte) error {
		w.replace(content, 0o644)
		w.moment()
		return os.Chmod(w.path, mode)
	}, false, []string{"problem: mode and owner: wider than configured ", "the file has mode 0644, configured is 0640"}},
	"for everybody before the rename": {func(w *wrong, content []byte) error {
		w.put(w.temporary(), content, 0o666)
		w.moment()
		w.replace(content, mode)
		return nil
	}, false, []string{"its temporary file has mode 0666, configured is 0640"}},
	"for nobody at first": {func(w *wrong, content []byte) error {
		w.replace(content, 0o600)
		w.moment()
		return os.Chmod(w.path, mode)
	}, false, []string{"problem: mode and owner: readers shut out "}},
	"the old one again": {func(w *wrong, content []byte) error {
		w.replace(content, mode)
		w.moment()
		if w.last != nil {
			w.replace(w.last, mode)
			w.moment()
		}
		w.last = content
		w.replace(content, mode)
		return nil
	}, false, []string{"problem: older than the read before: "}},
	"says it is done before it is": {func(w *wrong, content []byte) error {
		if w.last == nil {
			w.last = content
		}
		w.replace(w.last, mode)
		w.last = content
		return nil
	}, true, []string{"warning: rename visibility: ", "verdict: it holds, with "}},
	"one modification time": {func(w *wrong, content []byte) error {
		w.put(w.temporary(), content, mode)
		at := time.Unix(1e9, 0)
		return errors.Join(os.Chtimes(w.temporary(), at, at), os.Rename(w.temporary(), w.path))
	}, true, []string{"warning: modification time: "}},
	"no space now and then": {func(w *wrong, content []byte) error {
		if w.n++; w.n%3 == 0 {
			return syscall.ENOSPC
		}
		w.replace(content, mode)
		return nil
	}, false, []string{"problem: writing, with fsync: ", "no space left on device", "ok:      torn: 0"}},
}

// TestWrongWritersAreFoundOut: what each breaks is named.
func TestWrongWritersAreFoundOut(t *testing.T) {
	for name, tc := range wrongWriters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &wrong{t: t, path: filepath.Join(t.TempDir(), "token")}
			report, err := try(t.Context(), Options{Path: w.path, For: time.Second}, func(content []byte) error { return tc.write(w, content) })
			must(t, err)
			if report.Holds() != tc.holds {
				t.Errorf("Holds() = %t, want %t", report.Holds(), tc.holds)
			}
			for _, want := range tc.want {
				if !strings.Contains(report.String(), want) {
					t.Errorf("the report lacks %q", want)
				}
			}
			if t.Failed() {
				t.Log(report)
			}
		})
	}
}

// TestFileSystemThatHangs: a call that does not come back ends nothing but itself.
func TestFileSystemThatHangs(t *testing.T) {
	for name, from := range map[string]int{"from the start": 1, "later": 5} {
		t.Run(name, func(t *testing.T) {
			hang := make(chan struct{})
			defer close(hang)
			w := &wrong{t: t, path: filepath.Join(t.TempDir(), "token")}
			o := Options{Path: w.path, For: 200 * time.Millisecond, patience: 10 * time.Millisecond}
			report, err := try(t.Context(), o, func(content []byte) error {
				if w.n++; w.n >= from {
					<-hang
				} else {
					w.replace(content, mode)
				}
				return nil
			})
			if !errors.Is(err, errHangs) {
				t.Errorf("try() = %v, want %v", err, errHangs)
			}
			if report.Holds() || !strings.Contains(report.String(), "does not answer") || !strings.Contains(report.String(), "write") {
				t.Errorf("the report is %s", report)
			}
		})
	}
}

// overlay mounts a file system of layers, as a container has it.
func overlay(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	merged := filepath.Join(dir, "merged")
	layers := "lowerdir=" + filepath.Join(dir, "lower") + ",upperdir=" + filepath.Join(dir, "upper") + ",workdir=" + filepath.Join(dir, "work")
	mount(t, "overlay", merged, layers)
	return merged
}

func tmpfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "mode=0755")
	return dir
}

// fuse mounts a directory through a user-space file system.
func fuse(t *testing.T) string {
	t.Helper()
	bindfs, err := exec.LookPath("bindfs")
	if err != nil || os.Geteuid() != 0 {
		t.Skipf("a user-space file system needs root and bindfs (%v), and this test runs as user %d", err, os.Geteuid())
	}
	under, dir := t.TempDir(), t.TempDir()
	if out, err := exec.Command(bindfs, under, dir).CombinedOutput(); err != nil {
		t.Skipf("no user-space file system can be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, 0)) })
	return dir
}

// TestFileSystems tries the sinks' writer where sinks are, for a directory and for a file.
func TestFileSystems(t *testing.T) {
	for name, place := range map[string]func(*testing.T) string{
		"tmpfs":                tmpfs,
		"overlay":              overlay,
		"the one of the tests": func(t *testing.T) string { return t.TempDir() },
	} {
		t.Run(name, func(t *testing.T) {
			dir := place(t)
			for _, path := range []string{dir, filepath.Join(dir, "token")} {
				report, err := Run(t.Context(), Options{Path: path, For: Shortest})
				must(t, err)
				if !report.Holds() || report.Notices.Told != report.Writes.Done-1 || report.Seen.Stale.Count > 0 {
					t.Errorf("%s", report)
				}
				wantNothing(t, dir)
			}
		})
	}
}

// TestUserSpaceFileSystem: whether a reader finds no file for a moment is that file system's own matter,
// and bindfs is one where that happens. What is checked is that a trial ends there, and leaves nothing.
func TestUserSpaceFileSystem(t *testing.T) {
	dir := fuse(t)
	report, err := Run(t.Context(), Options{Path: dir, For: Shortest, FileSystem: "FUSE", Remote: true})
	must(t, err)
	if report.Writes.Failed.Count > 0 || report.Seen.Torn.Count > 0 || !strings.Contains(report.String(), "warning: only this host was tested") {
		t.Errorf("%s", report)
	}
	wantNothing(t, dir)
}

// TestFirstWriteIsRefused: without one there is nothing to try, and nothing is left.
func TestFirstWriteIsRefused(t *testing.T) {
	dir := tmpfs(t)
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=4k"))
	must(t, os.WriteFile(filepath.Join(dir, "full"), make([]byte, 4096), 0o600))
	_, err := Run(t.Context(), Options{Path: filepath.Join(dir, "token"), For: Shortest})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "hint: no sink can be written there") {
		t.Errorf("Run() = %v, want %v with a hint", err, syscall.ENOSPC)
	}
	must(t, os.Remove(filepath.Join(dir, "full")))
	wantNothing(t, dir)
}

func wantNothing(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	must(t, err)
	for _, entry := range left {
		t.Errorf("%q is left", entry.Name())
	}
}

func TestStoppedEarly(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, stop)
	report, err := Run(ctx, Options{Path: dir, For: time.Hour})
	must(t, err)
	if report.Took > time.Minute {
		t.Errorf("it took %v", report.Took)
	}
	wantNothing(t, dir)
}

func TestPathsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	put := func(name string) string {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o600))
		return filepath.Join(dir, name)
	}
	link := func(name, to string) string {
		must(t, os.Symlink(to, filepath.Join(dir, name)))
		return filepath.Join(dir, name)
	}
	open := filepath.Join(dir, "open")
	must(t, os.Mkdir(open, 0o755))
	must(t, os.Chmod(open, 0o777))
	for name, tc := range map[string]struct {
		path, want string
		kind       error
	}{
		"a file":                       {put("file"), "nothing is overwritten", fs.ErrExist},
		"a link to a file":             {link("link", put("other")), "nothing is overwritten", fs.ErrExist},
		"a link to nothing":            {link("dangling", "nowhere"), "nothing is overwritten", fs.ErrExist},
		"in a directory that is not":   {filepath.Join(dir, "gone", "token"), "its directory does not exist", nil},
		"below a file":                 {filepath.Join(put("flat"), "token"), "not a directory", nil},
		"where others can replace it":  {open, "can be written to by others", nil},
		"named as temporary files are": {filepath.Join(dir, ".credagent-x"), "kept for temporary files", nil},
	} {
		t.Run(name, func(t *testing.T) {
			before, err := os.ReadDir(dir)
			must(t, err)
			_, err = Run(t.Context(), Options{Path: tc.path, For: Shortest})
			if err == nil || !strings.Contains(err.Error(), tc.want) || tc.kind != nil && !errors.Is(err, tc.kind) {
				t.Errorf("Run() = %v, want %q", err, tc.want)
			}
			after, err := os.ReadDir(dir)
			must(t, err)
			if len(after) != len(before) {
				t.Errorf("%d files were left", len(after)-len(before))
			}
			wantNothing(t, open)
			if content, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(content) != "old" {
				t.Errorf("the file that was there holds %q, %v", content, err)
			}
		})
	}
}

// TestTooLittle: nothing seen is no proof.
func TestTooLittle(t *testing.T) {
	report := &Report{Path: "token", Writes: writes{Done: 9}, Seen: tally{Looks: 1000}}
	if report.Holds() || !strings.Contains(report.String(), "verdict: none") || strings.Contains(report.String(), "ok:") {
		t.Errorf("the report is %s", report)
	}
	report.Writes.Done, report.Notices.Told = 10, 9
	if !report.Holds() || !strings.Contains(report.String(), "verdict: it holds") {
		t.Errorf("the report is %s", report)
	}
}
