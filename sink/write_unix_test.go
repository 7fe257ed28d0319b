//go:build unix

package sink_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/credagent/credagent/sink"
)

func underUmask(t *testing.T, mask int) {
	t.Helper()
	old := syscall.Umask(mask)
	t.Cleanup(func() { syscall.Umask(old) })
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	return stat(t, path).Sys().(*syscall.Stat_t).Ino
}

func TestModeIsExact(t *testing.T) {
	for _, mask := range []int{0o000, 0o022, 0o077, 0o777} {
		for configured, want := range map[fs.FileMode]fs.FileMode{
			0: 0o600, 0o600: 0o600, 0o640: 0o640, 0o440: 0o440, 0o664: 0o664, 0o777: 0o777,
		} {
			t.Run(fmt.Sprintf("umask %03o mode %03o", mask, configured), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "token")
				underUmask(t, mask)
				f := newSink(t, sink.Options{Path: path, Mode: configured})
				write(t, f, "one", sink.Written)
				write(t, f, "two", sink.Written)
				if got := stat(t, path).Mode(); got != want {
					t.Errorf("mode is %s, want %s", got, want)
				}
				wantEntries(t, filepath.Dir(path), "token")
			})
		}
	}
}

func TestUnchangedIsNotRewritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	f := newSink(t, sink.Options{Path: path, Mode: 0o640})
	write(t, f, "one", sink.Written)
	before, node := stat(t, path), inode(t, path)

	write(t, f, "one", sink.Unchanged)
	write(t, newSink(t, sink.Options{Path: path, Mode: 0o640}), "one", sink.Unchanged)
	if after := stat(t, path); inode(t, path) != node || !after.ModTime().Equal(before.ModTime()) {
		t.Error("the file was touched")
	}
	write(t, f, "two", sink.Written)
	if inode(t, path) == node {
		t.Error("the content was changed in place")
	}
	wantContent(t, path, "two")
}

func TestModificationTimeOfEveryFileDiffers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	f := newSink(t, sink.Options{Path: path})
	write(t, f, "0", sink.Written)
	for i := range 50 {
		before := stat(t, path).ModTime()
		write(t, f, fmt.Sprint(i+1), sink.Written)
		if stat(t, path).ModTime().Equal(before) {
			t.Fatalf("write %d left the modification time", i)
		}
	}
}

func TestDriftIsMended(t *testing.T) {
	for name, tc := range map[string]struct {
		drift func(path string) error
		want  sink.Outcome
	}{
		"wider mode":     {func(path string) error { return os.Chmod(path, 0o666) }, sink.Mended},
		"narrower mode":  {func(path string) error { return os.Chmod(path, 0o400) }, sink.Mended},
		"set-user bit":   {func(path string) error { return os.Chmod(path, 0o640|fs.ModeSetuid) }, sink.Mended},
		"other content":  {func(path string) error { return os.WriteFile(path, []byte("two"), 0) }, sink.Written},
		"longer content": {func(path string) error { return os.WriteFile(path, []byte("one\n"), 0) }, sink.Written},
		"truncated":      {func(path string) error { return os.Truncate(path, 0) }, sink.Written},
		"removed":        {os.Remove, sink.Written},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			f := newSink(t, sink.Options{Path: path, Mode: 0o640})
			write(t, f, "one", sink.Written)
			wantHolds(t, f, "one", true)
			must(t, tc.drift(path))
			wantHolds(t, f, "one", false)

			write(t, f, "one", tc.want)
			wantHolds(t, f, "one", true)
			wantContent(t, path, "one")
			if got := stat(t, path).Mode(); got != 0o640 {
				t.Errorf("mode is %s", got)
			}
			write(t, f, "one", sink.Unchanged)
		})
	}
}

func wantHolds(t *testing.T, f *sink.File, content string, want bool) {
	t.Helper()
	got, err := f.Holds(having(graph(content)))
	must(t, err)
	if got != want {
		t.Errorf("Holds(%q) = %t, want %t", content, got, want)
	}
}

func TestHolds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	must(t, os.Mkdir(dir, 0o755))
	path := filepath.Join(dir, "token")
	f := newSink(t, sink.Options{Path: path})
	wantHolds(t, f, "one", false)
	write(t, f, "one", sink.Written)
	wantHolds(t, f, "one", true)
	wantHolds(t, f, "two", false)

	var missing *sink.MissingTokenError
	if _, err := f.Holds(having()); !errors.As(err, &missing) {
		t.Errorf("Holds() without a token: %v", err)
	}
	must(t, os.Rename(path, path+".real"))
	must(t, os.Symlink(path+".real", path))
	wantHolds(t, f, "one", false)
	must(t, os.RemoveAll(dir))
	wantHolds(t, f, "one", false)
	must(t, os.WriteFile(dir, nil, 0o600))
	wantHolds(t, f, "one", false)
}

func TestMissingTokenWritesNothing(t *testing.T) {
	dir := t.TempDir()
	f := newSink(t, sink.Options{Path: filepath.Join(dir, "token")})
	_, err := f.Write(having())
	var missing *sink.MissingTokenError
	if !errors.As(err, &missing) || missing.Token != "graph" {
		t.Errorf("Write() error = %v", err)
	}
	wantEntries(t, dir)
	write(t, f, "one", sink.Written)
	if _, err := f.Write(having()); err == nil {
		t.Error("no error for a missing token")
	}
	wantContent(t, f.Path(), "one")
}

// TestRefusedTargets puts something in the way, before the start and before a write.
func TestRefusedTargets(t *testing.T) {
	for name, tc := range map[string]struct {
		block func(path string) error
		want  []string
	}{
		"link to a file": {func(path string) error {
			if err := os.WriteFile(path+".real", []byte("theirs"), 0o600); err != nil {
				return err
			}
			return os.Symlink(path+".real", path)
		}, []string{"symbolic link", "configure the path"}},
		"dangling link": {func(path string) error { return os.Symlink(path+".real", path) }, []string{"symbolic link"}},
		"link outside":  {func(path string) error { return os.Symlink("/dev/null", path) }, []string{"symbolic link"}},
		"directory":     {func(path string) error { return os.Mkdir(path, 0o755) }, []string{"it is a directory"}},
		"pipe":          {func(path string) error { return syscall.Mkfifo(path, 0o600) }, []string{"not a regular file"}},
		"unsafe directory, world": {func(path string) error { return os.Chmod(filepath.Dir(path), 0o757) },
			[]string{"mode 0757", "can be written to by others", "chmod go-w"}},
		"unsafe directory, group": {func(path string) error { return os.Chmod(filepath.Dir(path), 0o775) },
			[]string{"mode 0775", "can be written to by others"}},
		"dangling link to a directory": {func(path string) error {
			return errors.Join(os.Remove(filepath.Dir(path)), os.Symlink("nowhere", filepath.Dir(path)))
		}, []string{"opening directory", "no such file or directory", "create it"}},
		"file for a directory": {func(path string) error {
			return errors.Join(os.Remove(filepath.Dir(path)), os.WriteFile(filepath.Dir(path), nil, 0o600))
		}, []string{"opening directory", "not a directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "run", "token")
			must(t, os.Mkdir(filepath.Dir(path), 0o755))
			f := newSink(t, sink.Options{Path: path})
			must(t, tc.block(path))
			_, err := sink.New(sink.Options{Path: path, Renderer: sink.Raw("graph")})
			wantError(t, err, append(tc.want, fmt.Sprintf("preparing sink %q: ", path))...)
			_, err = f.Write(having(graph("one")))
			wantError(t, err, append(tc.want, fmt.Sprintf("writing %q: ", path))...)
			if data, err := os.ReadFile(path + ".real"); err == nil && string(data) != "theirs" {
				t.Errorf("the link was followed: %q", data)
			}

			must(t, os.RemoveAll(filepath.Dir(path)))
			must(t, os.Mkdir(filepath.Dir(path), 0o755))
			write(t, f, "one", sink.Written)
			wantContent(t, path, "one")
		})
	}
}

func TestMissingDirectory(t *testing.T) {
	parent := t.TempDir()
	path := filepath.Join(parent, "run", "token")
	f := newSink(t, sink.Options{Path: path})
	write(t, f, "one", sink.Written)

	// Once the agent runs, a directory that is gone was removed by somebody: it is left to them.
	must(t, os.RemoveAll(filepath.Dir(path)))
	_, err := f.Write(having(graph("two")))
	wantError(t, err, "opening directory", "no such file or directory", "create it")

	_, err = sink.New(sink.Options{Path: filepath.Join(parent, "no", "run", "token"), Renderer: sink.Raw("graph")})
	wantError(t, err, "opening directory", "no such file or directory", "create it")
}

// TestOpenDirectoryAbove: who may write above the directory can put another in its place.
func TestOpenDirectoryAbove(t *testing.T) {
	above := filepath.Join(t.TempDir(), "above")
	must(t, os.Mkdir(above, 0o700))
	path := filepath.Join(above, "run", "token")
	f := newSink(t, sink.Options{Path: path})
	write(t, f, "one", sink.Written)
	must(t, os.Chmod(above, 0o777))
	wantHolds(t, f, "one", false)
	_, err := f.Write(having(graph("two")))
	wantError(t, err, "writing", "chmod go-w", above)
	wantContent(t, path, "one")
	_, err = sink.New(sink.Options{Path: path, Renderer: sink.Raw("graph")})
	wantError(t, err, "preparing sink", "chmod go-w", above)
}

func TestDirectoriesThatAreAccepted(t *testing.T) {
	for name, mode := range map[string]fs.FileMode{
		"sticky, like /tmp": 0o777 | fs.ModeSticky, "group, sticky": 0o770 | fs.ModeSticky,
		"private": 0o700, "readable": 0o755, "set-group": 0o750 | fs.ModeSetgid,
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			must(t, os.Mkdir(dir, 0o700))
			must(t, os.Chmod(dir, mode))
			write(t, newSink(t, sink.Options{Path: filepath.Join(dir, "token")}), "one", sink.Written)
		})
	}
}

func TestDirectoryMayBeALink(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
	must(t, os.Symlink("real", filepath.Join(dir, "link")))
	write(t, newSink(t, sink.Options{Path: filepath.Join(dir, "link", "token")}), "one", sink.Written)
	wantContent(t, filepath.Join(dir, "real", "token"), "one")
}

func TestRefusedOptions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	raw := sink.Raw("graph")
	for name, tc := range map[string]struct {
		options sink.Options
		want    []string
	}{
		"no renderer":      {sink.Options{Path: path}, []string{"no renderer"}},
		"no path":          {sink.Options{Renderer: raw}, []string{"names no file"}},
		"trailing slash":   {sink.Options{Path: path + "/", Renderer: raw}, []string{"names no file"}},
		"temporary's name": {sink.Options{Path: filepath.Join(filepath.Dir(path), ".credagent-x"), Renderer: raw}, []string{"kept for temporary files"}},
		"long name":        {sink.Options{Path: path + strings.Repeat("x", 240), Renderer: raw}, []string{"at most 227"}},
		"mode":             {sink.Options{Path: path, Mode: 0o640 | fs.ModeSetuid, Renderer: raw}, []string{"permission bits"}},
		"raw mode":         {sink.Options{Path: path, Mode: 0o4640, Renderer: raw}, []string{"permission bits"}},
		"owner":            {sink.Options{Path: path, Owner: "no-such-user", Renderer: raw}, []string{`owner "no-such-user"`, "no such user", "check the name"}},
		"group":            {sink.Options{Path: path, Group: "no-such-group", Renderer: raw}, []string{`group "no-such-group"`, "no such group"}},
		"nobody's number":  {sink.Options{Path: path, Owner: "4294967295", Renderer: raw}, []string{"no such user"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sink.New(tc.options)
			wantError(t, err, append(tc.want, fmt.Sprintf("preparing sink %q: ", tc.options.Path))...)
		})
	}
}

func TestLongestName(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 227))
	write(t, newSink(t, sink.Options{Path: path}), "one", sink.Written)
	wantContent(t, path, "one")
}

func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	f := newSink(t, sink.Options{Path: "token"})
	if !filepath.IsAbs(f.Path()) {
		t.Errorf("Path() = %q", f.Path())
	}
	t.Chdir("/")
	write(t, f, "one", sink.Written)
	wantContent(t, f.Path(), "one")
}

func TestLeftOversAreRemovedAtStart(t *testing.T) {
	dir := t.TempDir()
	theirs := []string{
		".credagent-token", ".credagent-token-", ".credagent-token-0123", ".credagent-token-0123456789abcdeg",
		"token-0123456789abcdef", ".credagent-doctor-123456789",
	}
	ours := []string{
		".credagent-token-0123456789abcdef", ".credagent-token-ffffffffffffffff",
		".credagent-token-b-0123456789abcdef", ".credagent-renamed-0123456789abcdef", // of sinks that were renamed since
	}
	for _, name := range append(ours, theirs...) {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	newSink(t, sink.Options{Path: filepath.Join(dir, "token")})
	for _, name := range theirs {
		stat(t, filepath.Join(dir, name))
	}
	for _, name := range ours {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", name)
		}
	}
}

// TestLeftOversOfOthersStay: what only looks like a temporary of ours, and what is being written.
func TestLeftOversOfOthersStay(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, path string){
		"a directory": func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) },
		"a link":      func(t *testing.T, path string) { must(t, os.Symlink("x", path)) },
		"a hard link": func(t *testing.T, path string) {
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.Link(path, filepath.Join(filepath.Dir(path), "theirs")))
		},
		"a pipe": func(t *testing.T, path string) { must(t, syscall.Mkfifo(path, 0o600)) },
		"another user's": func(t *testing.T, path string) {
			if os.Geteuid() != 0 {
				t.Skip("giving a file away needs root")
			}
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.Chown(path, 65533, -1))
		},
		"another agent's, that is written now": func(t *testing.T, path string) {
			file, err := os.Create(path)
			must(t, err)
			t.Cleanup(func() { _ = file.Close() })
			must(t, syscall.Flock(int(file.Fd()), syscall.LOCK_EX))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), ".credagent-other-0123456789abcdef")
			make(t, path)
			newSink(t, sink.Options{Path: filepath.Join(filepath.Dir(path), "token")})
			if _, err := os.Lstat(path); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDirectoryReplacedByALinkIsNotAWayOut(t *testing.T) {
	dir := t.TempDir()
	run, open := filepath.Join(dir, "run"), filepath.Join(dir, "open")
	must(t, os.Mkdir(run, 0o755))
	must(t, os.Mkdir(open, 0o700))
	must(t, os.Chmod(open, 0o777))
	f := newSink(t, sink.Options{Path: filepath.Join(run, "token")})
	must(t, os.Remove(run))
	must(t, os.Symlink("open", run))
	_, err := f.Write(having(graph("one")))
	wantError(t, err, "can be written to by others")
	wantEntries(t, open)
}

// TestReadersNeverSeeATear reads at full speed what is being replaced.
func TestReadersNeverSeeATear(t *testing.T) {
	const writes = 1000
	path := filepath.Join(t.TempDir(), "token")
	f := newSink(t, sink.Options{Path: path})
	write(t, f, sealed(0), sink.Written)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() { readUntil(t, path, stop) })
	}
	for i := range writes {
		write(t, f, sealed(i+1), sink.Written)
	}
	close(stop)
	readers.Wait()
	wantEntries(t, filepath.Dir(path), "token")
}

// TestStartBesideAWriter: a start may take what another sink of the path, still in use until a
// reload is over, is writing for a left-over.
func TestStartBesideAWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	f := newSink(t, sink.Options{Path: path})
	for i := range 50 {
		var start sync.WaitGroup
		start.Go(func() {
			if _, err := sink.New(sink.Options{Path: path, Renderer: sink.Raw("graph")}); err != nil {
				t.Error(err)
			}
		})
		write(t, f, sealed(i), sink.Written)
		start.Wait()
		checkSealed(t, path)
	}
	wantEntries(t, filepath.Dir(path), "token")
}

// TestConcurrentUse writes one path from two sinks, each from two goroutines.
func TestConcurrentUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	var workers sync.WaitGroup
	for worker := range 2 {
		f := newSink(t, sink.Options{Path: path})
		for range 2 {
			workers.Go(func() {
				for i := range 25 {
					if _, err := f.Write(having(graph(sealed(i + 100*worker)))); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	workers.Wait()
	checkSealed(t, path)
	wantEntries(t, filepath.Dir(path), "token")
}

func TestOutcomeNames(t *testing.T) {
	for outcome, want := range map[sink.Outcome]string{
		sink.Unchanged: "unchanged", sink.Mended: "mended", sink.Written: "written",
	} {
		if got := outcome.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

// TestBatchRemovesEachLeftOver: a directory that several sinks share is looked through once, and still
// nothing is left in it but what somebody else is writing.
func TestBatchRemovesEachLeftOver(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".credagent-a-0123456789abcdef", ".credagent-a-0123456789abcde0", ".credagent-b-0123456789abcdef", ".credagent-c-0123456789abcdef"} {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	writing, err := os.Open(filepath.Join(dir, ".credagent-c-0123456789abcdef"))
	must(t, err)
	defer writing.Close()
	must(t, syscall.Flock(int(writing.Fd()), syscall.LOCK_EX)) // another agent's
	var batch sink.Batch
	for _, name := range []string{"a", "b"} {
		if _, err := batch.New(sink.Options{Path: filepath.Join(dir, name), Renderer: sink.Raw("graph")}); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, ".credagent-*"))
	must(t, err)
	if len(left) != 1 || filepath.Base(left[0]) != ".credagent-c-0123456789abcdef" {
		t.Errorf("left are %q, want what was made for somebody else", left)
	}
}
