package provider

import (
	"os"
	"path/filepath"
	"testing"
)

// A provider's process has another working directory, so only a whole path leads there.
func TestSocketsAreInAWholePath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, relative := range []string{"run", "./run", ".", "run:/run/x", ""} {
		t.Setenv("RUNTIME_DIRECTORY", relative)
		if got := socketParent(); got != "" && !filepath.IsAbs(got) {
			t.Errorf("RUNTIME_DIRECTORY=%q: sockets are in %q", relative, got)
		}
	}
}
