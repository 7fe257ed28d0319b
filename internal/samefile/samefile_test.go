//go:build unix

package samefile

import (
	"os"
	"path/filepath"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOf(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/file", nil, 0o600))
	must(t, os.Link(dir+"/file", dir+"/hard"))
	must(t, os.Symlink("file", dir+"/soft"))
	must(t, os.Symlink(dir, dir+"/here"))
	must(t, os.Symlink("later", dir+"/dangling"))
	must(t, os.Symlink("loop", dir+"/loop"))
	must(t, os.MkdirAll(dir+"/x/y", 0o755))
	must(t, os.Symlink("x/y", dir+"/deep"))
	must(t, os.Symlink("../later", dir+"/x/y/up"))
	must(t, os.Symlink("deep/../later", dir+"/down-and-up"))
	must(t, os.Symlink(dir+"/deep/../later", dir+"/absolute"))
	for name, tc := range map[string]struct {
		a, b string
		same bool
	}{
		"itself":                       {"file", "file", true},
		"hard link":                    {"file", "hard", true},
		"soft link":                    {"file", "soft", true},
		"by a directory":               {"file", "here/here/file", true},
		"another":                      {"file", "other", false},
		"not there":                    {"other", "here/other", true},
		"two that are not":             {"other", "another", false},
		"deeper and not there":         {"no/such/file", "here/no/such/file", true},
		"deeper, and others":           {"no/such/file", "such/file", false},
		"a link that dangles":          {"dangling", "here/later", true},
		"up from where a link leads":   {"deep/up", "x/later", true},
		"not up from the link":         {"deep/up", "later", false},
		"down by a link, and up":       {"down-and-up", "x/later", true},
		"the same from the root":       {"absolute", "x/later", true},
		"a loop is only itself":        {"loop", "file", false},
		"a directory is no file":       {"here", "file", false},
		"upper case, where it differs": {"other", "OTHER", looksFolding(dir)},
	} {
		t.Run(name, func(t *testing.T) {
			find := new(Finder)
			a, b := find.Of(filepath.Join(dir, tc.a)), find.Of(filepath.Join(dir, tc.b))
			if (a == b) != tc.same {
				t.Errorf("%v and %v, want them the same: %t", a, b, tc.same)
			}
		})
	}
}

func TestFlip(t *testing.T) {
	for name, want := range map[string]string{"token": "Token", "Token": "token", "7a": "7A", ".x": ".X", "1": "1", "": "", "é": "é"} {
		if got := flip(name); got != want {
			t.Errorf("flip(%q) = %q, want %q", name, got, want)
		}
	}
}
