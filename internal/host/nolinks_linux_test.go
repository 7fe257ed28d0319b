package host

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenWithoutLinks: a directory is opened in one step only where every component is in order and no
// link; all else is left to the walk.
func TestOpenWithoutLinks(t *testing.T) {
	top := t.TempDir()
	for _, dir := range []string{"safe/inner", "open/inner"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(top, "open"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("safe", filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		path string
		want bool
	}{
		"in order":           {top + "/safe/inner", true},
		"a link on the way":  {top + "/link/inner", false},
		"a link at its end":  {top + "/link", false},
		"open to others":     {top + "/open", false},
		"below what is open": {top + "/open/inner", false},
		"missing":            {top + "/none", false},
		"not clean":          {top + "/safe/../safe/inner", false},
		"relative":           {"safe/inner", false},
	} {
		t.Run(name, func(t *testing.T) {
			root := Directory{Path: tc.path, Owner: NoOwner}.openWithoutLinks()
			if (root != nil) != tc.want {
				t.Fatalf("opened: %t, want %t", root != nil, tc.want)
			}
			if root != nil {
				defer root.Close()
				if err := root.Mkdir("made", 0o700); err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(filepath.Join(tc.path, "made")); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestUpwardsOfAMovedDirectory: what is above a directory that was moved after it was opened is not what
// its path says, so nothing is concluded from it.
func TestUpwardsOfAMovedDirectory(t *testing.T) {
	top := t.TempDir()
	path := filepath.Join(top, "here")
	for _, dir := range []string{path, filepath.Join(top, "there")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	h := &held{fd: fd}
	defer h.close()
	way, ok := h.upwards(path)
	if !ok || way[0].path != "/" || way[len(way)-1].path != path || len(way) != len(components(path)) {
		t.Errorf("the way is %v, %t", way, ok)
	}
	if err := os.Rename(path, filepath.Join(top, "there", "here")); err != nil {
		t.Fatal(err)
	}
	if way, ok := h.upwards(path); ok {
		t.Errorf("the way of the moved directory is %v", way)
	}
}
