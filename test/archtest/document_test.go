package archtest

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxPackage is the maximum number of lines of a package without a reason in the document.
const maxPackage = 1500

func architecture(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestArchitectureSaysWhatIsEnforced compares the document's table of packages with rooms.
func TestArchitectureSaysWhatIsEnforced(t *testing.T) {
	rows := map[string]string{} // by package: what it may import
	for line := range strings.Lines(architecture(t)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if name, ok := strings.CutPrefix(cells[0], "| `"); ok && len(cells) == 3 {
			rows[strings.TrimSuffix(name, "`")] = strings.TrimSuffix(cells[2], " |")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rooms)) {
		if want := allowed(rooms[name]); rows[name] != want {
			t.Errorf("the table of ARCHITECTURE.md says that %s may import %q, want %q", name, rows[name], want)
		}
	}
}

// allowed returns the document's text for what a room may import.
func allowed(r room) string {
	switch {
	case len(r.may) == 0:
		return "nothing"
	case slices.Contains(r.may, "*"):
		return "anything"
	}
	return "`" + strings.Join(slices.Sorted(slices.Values(r.may)), "`, `") + "`"
}

// TestPackagesStaySmall: a package of the program that is large has its reason in the document.
func TestPackagesStaySmall(t *testing.T) {
	lines := map[string]int{}
	for _, f := range program(load(t)) {
		lines[f.dir] += f.set.File(f.syntax.FileStart).LineCount()
	}
	text := architecture(t)
	for dir, n := range lines {
		if _, ours := rooms[dir]; ours && n > maxPackage && !strings.Contains(text, "\n- `"+dir+"` is large: ") {
			t.Errorf("package %s has %d lines, want at most %d, or a line %q in ARCHITECTURE.md", dir, n, maxPackage, "- `"+dir+"` is large: …")
		}
	}
}
