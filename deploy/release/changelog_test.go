package main

import (
	"archive/zip"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNewest(t *testing.T) {
	for name, test := range map[string]struct {
		text, version, notes string
		err                  error
	}{
		"nothing unreleased":  {"# Changelog\n\n## [1.2.3] - 2026-01-02\n\n### Added\n\n- It.\n\n## [1.2.2] - 2026-01-01\n\n- Old.\n", "1.2.3", "### Added\n\n- It.", nil},
		"something more":      {"## [Unreleased]\n\n- Next.\n\n## [0.2.0] - 2026-01-02\n\n- It.\n", "0.2.0", "- It.", nil},
		"a candidate":         {"## [1.0.0-rc.1] - 2026-01-02\n\n- It.\n", "1.0.0-rc.1", "- It.", nil},
		"line ends of DOS":    {"## [1.0.0] - 2026-01-02\r\n\r\n- It.\r\n", "1.0.0", "- It.", nil},
		"a release of no day": {"## [1.0.1]\n\n- Not yet.\n\n## [1.0.0] - 2026-01-02\n\n- It.\n", "1.0.0", "- It.", nil},
		"no release":          {"# Changelog\n\n## [Unreleased]\n\n- Next.\n", "", "", errNoRelease},
		"empty":               {"", "", "", errNoRelease},
	} {
		t.Run(name, func(t *testing.T) {
			version, notes, err := newest(test.text)
			if version != test.version || notes != test.notes || !errors.Is(err, test.err) {
				t.Errorf("got %q, %q, %v; want %q, %q, %v", version, notes, err, test.version, test.notes, test.err)
			}
		})
	}
}

// TestVersionAndNotes reads them from where release.sh is run.
func TestVersionAndNotes(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, command := range []string{"version", "notes"} {
		if err := run([]string{command}, &bytes.Buffer{}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("release %s without a changelog: %v", command, err)
		}
	}
	if err := os.WriteFile(changelog, []byte("## [0.2.0] - 2026-01-02\n\n- It.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{"version": "0.2.0\n", "notes": "# credagent 0.2.0\n\n- It.\n"} {
		var out bytes.Buffer
		if err := run([]string{command}, &out); err != nil || out.String() != want {
			t.Errorf("release %s: %q, %v; want %q", command, &out, err, want)
		}
	}
}

func TestZip(t *testing.T) {
	dir, day := t.TempDir(), time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)
	for name, mode := range map[string]os.FileMode{"b/credagent.exe": 0o755, "a": 0o644} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(name), mode), os.Chtimes(file, day, day)); err != nil {
			t.Fatal(err)
		}
	}
	var once, again bytes.Buffer
	if err := errors.Join(run([]string{"zip", dir, "top"}, &once), run([]string{"zip", dir, "top"}, &again)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(once.Bytes(), again.Bytes()) {
		t.Error("the same files make two different archives")
	}
	archive, err := zip.NewReader(bytes.NewReader(once.Bytes()), int64(once.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range archive.File {
		names = append(names, file.Name)
		if !file.Modified.Equal(day) {
			t.Errorf("%s is of %s, want %s", file.Name, file.Modified, day)
		}
	}
	if got, want := strings.Join(names, " "), "top/a top/b/credagent.exe"; got != want {
		t.Errorf("it holds %q, want %q", got, want)
	}
	if mode := archive.File[1].Mode(); mode.Perm() != 0o755 {
		t.Errorf("the program's mode is %v", mode)
	}
	if err := run([]string{"zip", filepath.Join(dir, "missing"), "top"}, &once); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("packing what is not there: %v", err)
	}
}
