//go:build unix

package api

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// directory makes one that only its owner can write to, whatever the umask.
func directory(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "identity")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	return dir
}

// opened opens the header file and checks that it holds what is to be sent, with its mode.
func opened(t *testing.T, path string) Header {
	t.Helper()
	h, err := OpenHeader(path)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(content) != h.Value.Reveal() || !soundHeader().Match(content) {
		t.Errorf("the file holds %d bytes, which are not the value or not sound", len(content))
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != headerMode {
		t.Errorf("mode is %s", info.Mode())
	}
	return h
}

func TestHeaderIsMadeAndKept(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	path := filepath.Join(directory(t), "header")
	first := opened(t, path)
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	second := opened(t, path)
	after, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if first.Rejected != nil || second.Rejected != nil || first.Value != second.Value {
		t.Errorf("a restart changes the value: %v, %v", first.Rejected, second.Rejected)
	}
	if !os.SameFile(before, after) {
		t.Error("a restart writes a file that was right")
	}
	if other := opened(t, filepath.Join(directory(t), "header")); other.Value == first.Value || len(other.Value.Reveal()) < 52 {
		t.Error("two agents have the same value, or one that can be guessed")
	}
	if text := fmt.Sprintf("%v %+v", first, first); strings.Contains(text, first.Value.Reveal()) {
		t.Error("printing it shows the value")
	}
}

func TestHeaderThatStandsThere(t *testing.T) {
	const sound = "AZaz09_-AZaz09_-AZaz09_-AZaz09_-"
	tests := map[string]struct {
		content  string
		mode     os.FileMode
		rejected string // "" for a value that is kept
	}{
		"sound":                {sound, 0o640, ""},
		"with a line end":      {sound + "\n", 0o640, ""},
		"its mode has drifted": {sound, 0o600, ""},
		"read-only":            {sound, 0o440, ""},
		"the longest":          {strings.Repeat("x", 512), 0o640, ""},
		"too long":             {strings.Repeat("x", 513), 0o640, "letters and digits"},
		"far too long":         {strings.Repeat("x", 100_000), 0o640, "letters and digits"},
		"too short":            {sound[1:], 0o640, "letters and digits"},
		"empty":                {"", 0o640, "letters and digits"},
		"of two lines":         {sound + "\n" + sound, 0o640, "letters and digits"},
		"with a blank":         {sound + " ", 0o640, "letters and digits"},
		"for everybody":        {sound, 0o644, "its mode is 0644"},
		"written by the group": {sound, 0o660, "its mode is 0660"},
		"executable":           {sound, 0o750, "its mode is 0750"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(directory(t), "header")
			if err := os.WriteFile(path, []byte(tc.content), tc.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tc.mode); err != nil {
				t.Fatal(err)
			}
			h := opened(t, path)
			kept := h.Value.Reveal() == strings.TrimSuffix(tc.content, "\n")
			if kept != (tc.rejected == "") || kept != (h.Rejected == nil) {
				t.Errorf("kept is %t, rejected %v", kept, h.Rejected)
			}
			if h.Rejected != nil && !strings.Contains(h.Rejected.Error(), tc.rejected) {
				t.Errorf("rejected as %v, want %q", h.Rejected, tc.rejected)
			}
		})
	}
}

func TestHeaderOfAnotherUserIsNotKept(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a file away needs root")
	}
	path := filepath.Join(directory(t), "header")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 40)), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	h := opened(t, path)
	if h.Rejected == nil || !strings.Contains(h.Rejected.Error(), "another user") {
		t.Errorf("rejected as %v", h.Rejected)
	}
	if info, err := os.Lstat(path); err != nil || !isOurs(info) {
		t.Errorf("the new file is not ours, %v", err)
	}
}

func TestHeaderFileTakesTheDirectorysGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a directory away needs root")
	}
	dir := directory(t)
	if err := os.Chown(dir, 0, 65534); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o750|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "header")
	opened(t, path)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if gid := info.Sys().(*syscall.Stat_t).Gid; gid != 65534 {
		t.Errorf("the file's group is %d", gid)
	}
}

func TestHeaderMakesItsDirectory(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	path := filepath.Join(directory(t), "new", "header")
	opened(t, path)
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != headerDirectoryMode {
		t.Errorf("its directory has mode %v, %v", info.Mode(), err)
	}
}

func TestHeaderIsRefused(t *testing.T) {
	nothing := func(string) error { return nil }
	tests := map[string]struct {
		file    string
		arrange func(path string) error
		want    string
	}{
		"a symbolic link":          {"header", func(path string) error { return os.Symlink("elsewhere", path) }, "symbolic link"},
		"a directory":              {"header", func(path string) error { return os.Mkdir(path, 0o700) }, "is a directory"},
		"a pipe":                   {"header", func(path string) error { return syscall.Mkfifo(path, 0o600) }, "not a regular file"},
		"a directory for everyone": {"header", func(path string) error { return os.Chmod(filepath.Dir(path), 0o777) }, "can be written to by others"},
		"two directories missing":  {"new/newer/header", nothing, "no such file"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(directory(t), tc.file)
			if err := tc.arrange(path); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenHeader(path); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("OpenHeader() = %v, want %q", err, tc.want)
			}
		})
	}
}
