package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestWatchOfTheFileItselfEnds shows why the directory is to be watched: inotify tells of the old
// file's end, and of nothing after that.
func TestWatchOfTheFileItselfEnds(t *testing.T) {
	need(t, "inotifywait", "inotify-tools")
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, "one")
	lines := says(t, "sh", "-c", `exec inotifywait --monitor --format %e "$1" 2>&1`, "sh", file)
	hears(t, lines, "Watches established.")
	replace(t, file, "two")
	hears(t, lines, "DELETE_SELF")
	replace(t, file, "three")
	write(t, file, "four")
	control := says(t, "sh", "-c", `exec inotifywait --monitor --format %f "$1" 2>&1`, "sh", filepath.Dir(file))
	hears(t, control, "Watches established.")
	replace(t, file, "five")
	hears(t, control, "token")
	// What the control saw, the watch of the file would have seen by now.
	var more []string
	for len(lines) > 0 {
		more = append(more, <-lines)
	}
	if slices.ContainsFunc(more, func(line string) bool { return line != "IGNORED" }) {
		t.Errorf("the watch of the replaced file still says %q", more)
	}
}

// TestBindMountOfTheFileStaysOld shows why the directory is to be mounted.
func TestBindMountOfTheFileStaysOld(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	file, mounted := filepath.Join(dir, "token"), filepath.Join(dir, "mounted")
	write(t, file, "one")
	write(t, mounted, "")
	if err := syscall.Mount(file, mounted, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("mounting is not allowed here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(mounted, syscall.MNT_DETACH) })
	replace(t, file, "two")
	if got, err := os.ReadFile(mounted); err != nil || string(got) != "one" {
		t.Errorf("the bind mount of a replaced file shows %q, %v", got, err)
	}
	seen, err := exec.CommandContext(t.Context(), "cat", file).Output()
	if err != nil || string(seen) != "two" {
		t.Errorf("the file itself shows %q, %v", seen, err)
	}
}

// replace puts a new file in the place of the old one, as credagent does.
func replace(t *testing.T, file, content string) {
	t.Helper()
	write(t, file+".new", content)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}
