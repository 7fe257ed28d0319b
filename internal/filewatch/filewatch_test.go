package filewatch

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ways are how a file is replaced by those who rotate credentials.
var ways = []struct {
	name    string
	prepare func(t *testing.T, dir string) (path string)
	replace func(t *testing.T, dir, path string)
}{
	{"rename", func(t *testing.T, dir string) string {
		put(t, filepath.Join(dir, "file"), "first")
		return filepath.Join(dir, "file")
	}, func(t *testing.T, _, path string) {
		put(t, path+".new", "other")
		must(t, os.Rename(path+".new", path))
	}},
	{"in place", func(t *testing.T, dir string) string {
		put(t, filepath.Join(dir, "file"), "first")
		return filepath.Join(dir, "file")
	}, func(t *testing.T, _, path string) { put(t, path, "a longer text") }},
	{"deleted and made again", func(t *testing.T, dir string) string {
		put(t, filepath.Join(dir, "file"), "first")
		return filepath.Join(dir, "file")
	}, func(t *testing.T, _, path string) {
		must(t, os.Remove(path))
		put(t, path, "other")
	}},
	{"a link to the file's directory, as the kubelet swaps it", func(t *testing.T, dir string) string {
		generation(t, dir, "one")
		must(t, os.Symlink("one", filepath.Join(dir, "..data")))
		must(t, os.Symlink(filepath.Join("..data", "file"), filepath.Join(dir, "file")))
		return filepath.Join(dir, "file")
	}, func(t *testing.T, dir, _ string) {
		generation(t, dir, "two")
		must(t, os.Symlink("two", filepath.Join(dir, "next")))
		must(t, os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "..data")))
	}},
	{"a link to the file, as certbot swaps it", func(t *testing.T, dir string) string {
		generation(t, dir, "live")
		generation(t, dir, "archive")
		path := filepath.Join(dir, "live", "link")
		must(t, os.Symlink("../archive/file", path))
		return path
	}, func(t *testing.T, dir, path string) {
		put(t, filepath.Join(dir, "archive", "file2"), "other")
		must(t, os.Remove(path))
		must(t, os.Symlink("../archive/file2", path))
	}},
	{"a link to a directory above", func(t *testing.T, dir string) string {
		generation(t, dir, "v1")
		must(t, os.Symlink(filepath.Join(dir, "v1"), filepath.Join(dir, "current")))
		return filepath.Join(dir, "current", "file")
	}, func(t *testing.T, dir, _ string) {
		generation(t, dir, "v2")
		must(t, os.Symlink(filepath.Join(dir, "v2"), filepath.Join(dir, "next")))
		must(t, os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "current")))
	}},
}

func generation(t *testing.T, dir, name string) {
	must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	put(t, filepath.Join(dir, name, "file"), name)
}

func TestEveryWayOfReplacingIsNoticed(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			dir := t.TempDir()
			path := way.prepare(t, dir)
			notifier, err := New()
			must(t, err)
			defer notifier.Close()
			Watch(notifier, []string{path})
			before := Fingerprint([]string{path})
			way.replace(t, dir, path)
			select {
			case <-notifier.Changes():
			case <-time.After(10 * time.Second):
				t.Error("the system did not tell of it")
			}
			if Fingerprint([]string{path}) == before {
				t.Error("it looks as before")
			}
		})
	}
}

func TestDirsOfEndsWhereLinksDoNot(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	loop := filepath.Join(dir, "loop")
	must(t, os.Symlink("loop", loop))
	if dirs := dirsOf(loop); len(dirs) == 0 || slices.ContainsFunc(dirs, func(d string) bool { return d != dir }) {
		t.Errorf("directories %q", dirs)
	}
	missing := filepath.Join(dir, "not", "there")
	if dirs := dirsOf(missing); !slices.Equal(dirs, []string{filepath.Dir(missing)}) {
		t.Errorf("directories %q", dirs)
	}
}

func TestSettlingFiresOnceForManyChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSettling()
		defer s.Stop()
		began := time.Now()
		s.Touch()
		s.Touch()
		<-s.C()
		if took := time.Since(began); took != SettleTime {
			t.Errorf("settled after %v", took)
		}
		s.Done()
		s.Touch()
		<-s.C()
		if took := time.Since(began); took != 2*SettleTime {
			t.Errorf("settled again after %v", took)
		}
	})
}
