//go:build unix

package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

func openRoot(t *testing.T) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root, dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	found, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, entry := range found {
		names = append(names, entry.Name())
	}
	return names
}

func TestReplace(t *testing.T) {
	root, dir := openRoot(t)
	for _, content := range []string{"one", "", "another"} {
		must(t, Replace(root, File{Name: "token", Content: []byte(content)}))
		must(t, SyncDirectory(root))
		got, err := os.ReadFile(filepath.Join(dir, "token"))
		must(t, err)
		if string(got) != content {
			t.Errorf("the file holds %q, want %q", got, content)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "token"))
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode is %s", info.Mode())
	}
	if got := entries(t, dir); !slices.Equal(got, []string{"token"}) {
		t.Errorf("directory has %q", got)
	}
}

// TestPrepareComesFirst: nothing is in the file before it has the attributes that it is to have.
func TestPrepareComesFirst(t *testing.T) {
	root, dir := openRoot(t)
	prepared := false
	must(t, Replace(root, File{Name: "token", Content: []byte("secret"), Prepare: func(file *os.File) (fs.FileInfo, error) {
		prepared = true
		info, err := file.Stat()
		if err != nil || info.Size() != 0 || info.Mode()&^0o600 != 0 {
			t.Errorf("it has %d bytes and mode %s, %v", info.Size(), info.Mode(), err)
		}
		return info, file.Chmod(0o640)
	}}))
	info, err := os.Stat(filepath.Join(dir, "token"))
	must(t, err)
	if !prepared || info.Mode() != 0o640 {
		t.Errorf("mode is %s", info.Mode())
	}
}

func TestFailureLeavesTheOldFile(t *testing.T) {
	refused := errors.New("no such privilege")
	for name, tc := range map[string]struct {
		arrange func(dir string) error
		file    File
		want    error
		left    []string
	}{
		"preparing":            {nil, File{Name: "token", Prepare: func(*os.File) (fs.FileInfo, error) { return nil, refused }}, refused, []string{"token"}},
		"a directory in place": {func(dir string) error { return os.Mkdir(filepath.Join(dir, "sub"), 0o700) }, File{Name: "sub"}, syscall.EEXIST, []string{"sub", "token"}},
		"no directory":         {os.RemoveAll, File{Name: "token"}, fs.ErrNotExist, nil},
	} {
		t.Run(name, func(t *testing.T) {
			root, dir := openRoot(t)
			must(t, Replace(root, File{Name: "token", Content: []byte("old")}))
			if tc.arrange != nil {
				must(t, tc.arrange(dir))
			}
			if err := Replace(root, tc.file); !errors.Is(err, tc.want) {
				t.Errorf("Replace() = %v, want %v", err, tc.want)
			}
			if tc.left == nil {
				return
			}
			if got := entries(t, dir); !slices.Equal(got, tc.left) {
				t.Errorf("directory has %q, want %q", got, tc.left)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "token")); err != nil || string(got) != "old" {
				t.Errorf("the old file holds %q, %v", got, err)
			}
		})
	}
}

func TestDifferInTime(t *testing.T) {
	root, dir := openRoot(t)
	path := filepath.Join(dir, "token")
	must(t, os.WriteFile(path, nil, 0o600))
	for name, same := range map[string]bool{"same time": true, "other time": false} {
		t.Run(name, func(t *testing.T) {
			old, err := os.Stat(path)
			must(t, err)
			if !same {
				later := old.ModTime().Add(time.Hour)
				must(t, os.Chtimes(path, later, later))
			}
			before, err := os.Stat(path)
			must(t, err)
			must(t, differInTime(root, "token", old))
			after, err := os.Stat(path)
			must(t, err)
			if after.ModTime().Equal(old.ModTime()) {
				t.Error("the time is still the old one")
			}
			if !same && !after.ModTime().Equal(before.ModTime()) {
				t.Error("a time that differs was changed")
			}
		})
	}
}

func TestTemporaryOf(t *testing.T) {
	const random = "0123456789abcdef"
	for temporary, want := range map[string]string{
		stem("token") + random:            "token",
		stem("token-b") + random:          "token-b",
		stem("-") + random:                "-",
		stem("token") + "0123":            "",
		stem("token") + random + "0":      "",
		stem("token") + random[:15] + "g": "",
		stem("") + random:                 "",
		Prefix + random:                   "",
		Prefix:                            "",
		"token-" + random:                 "",
		Prefix + "token" + random:         "",
	} {
		if name, ok := temporaryOf(temporary); ok != (want != "") || ok && name != want {
			t.Errorf("temporaryOf(%q) = %q, %t, want %q", temporary, name, ok, want)
		}
	}
}

// TestOpenIsOfTheFileThatWasSeen puts something else in a file's place before it is opened.
func TestOpenIsOfTheFileThatWasSeen(t *testing.T) {
	for name, tc := range map[string]struct {
		swap func(path string) error
		want error
	}{
		"nothing":      {func(string) error { return nil }, nil},
		"a new file":   {func(path string) error { return os.WriteFile(path, []byte("new"), 0o600) }, ErrReplaced},
		"a link to it": {func(path string) error { return os.Symlink("other", path) }, ErrReplaced},
		"a pipe":       {func(path string) error { return syscall.Mkfifo(path, 0o600) }, ErrReplaced},
		"removed":      {func(string) error { return nil }, fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			root, dir := openRoot(t)
			path := filepath.Join(dir, "token")
			must(t, os.WriteFile(path, []byte("old"), 0o600))
			must(t, os.WriteFile(filepath.Join(dir, "other"), []byte("other"), 0o600))
			info, err := root.Lstat("token")
			must(t, err)
			if name != "nothing" {
				must(t, os.Rename(path, path+".moved")) // its inode stays taken
				must(t, tc.swap(path))
			}
			file, err := Open(root, "token", info)
			if !errors.Is(err, tc.want) {
				t.Errorf("Open() = %v, want %v", err, tc.want)
			}
			if err == nil {
				must(t, file.Close())
			}
		})
	}
}
