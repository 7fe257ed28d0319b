//go:build unix

package nodetest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

var project = Project{Name: "answer", Script: "answer.mjs", Files: fstest.MapFS{
	"package.json":      {Data: []byte("{}")},
	"package-lock.json": {Data: []byte("{}")},
	"answer.mjs":        {Data: []byte("42")},
}}

func TestFindTools(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		error string
	}{
		{
			name:  "both",
			files: map[string]string{"node": "echo v20.20.2", "npm": "exit 1"},
		},
		{
			name:  "no node",
			files: map[string]string{"npm": "exit 1"},
			error: "node 20 or newer and npm are needed: apt-get install nodejs npm",
		},
		{
			name:  "no npm",
			files: map[string]string{"node": "echo v20.20.2"},
			error: "node 20 or newer and npm are needed: apt-get install nodejs npm",
		},
		{
			name:  "an old node",
			files: map[string]string{"node": "echo v18.20.4", "npm": "exit 1"},
			error: "node 20 or newer and npm are needed: apt-get install nodejs npm (",
		},
		{
			name:  "a node of no known version",
			files: map[string]string{"node": "echo unreleased", "npm": "exit 1"},
			error: "is unreleased)",
		},
		{
			name:  "a broken node",
			files: map[string]string{"node": "exit 3", "npm": "exit 1"},
			error: "for its version: exit status 3",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, script := range tt.files {
				writeScript(t, filepath.Join(dir, name), script)
			}
			t.Setenv("PATH", dir)
			got, err := findTools(t.Context())
			if tt.error != "" {
				if err == nil || !strings.Contains(err.Error(), tt.error) {
					t.Errorf("got %v, want %q", err, tt.error)
				}
				return
			}
			if err != nil || got.node != filepath.Join(dir, "node") || got.npm != filepath.Join(dir, "npm") {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestInstallRunsNpmOnce(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	runs := filepath.Join(t.TempDir(), "runs")
	npm := filepath.Join(t.TempDir(), "npm")
	writeScript(t, npm, `test -s package.json && test -s package-lock.json && echo "$*" >>`+runs)

	const callers = 8
	scripts, errs := make(chan string, callers), make(chan error, callers)
	for range callers {
		go func() {
			script, err := project.install(t.Context(), npm)
			scripts <- script
			errs <- err
		}()
	}
	var script string
	for range callers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
		script = <-scripts
	}
	if got := readFile(t, runs); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "ci ") {
		t.Errorf("npm ran as %q, want npm ci once", got)
	}
	if got := readFile(t, script); got != "42" || filepath.Ext(script) != ".mjs" {
		t.Errorf("%q does not hold the script", script)
	}
}

func TestInstallStartsAgainAfterAFailure(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	npm := filepath.Join(t.TempDir(), "npm")
	writeScript(t, npm, "echo the registry is away; exit 1")
	_, err := project.install(t.Context(), npm)
	if err == nil || !strings.Contains(err.Error(), "npm ci: exit status 1\nthe registry is away") {
		t.Fatalf("got %v, want what npm said", err)
	}

	writeScript(t, npm, "exit 0")
	if _, err := project.install(t.Context(), npm); err != nil {
		t.Error(err)
	}
}

// TestLockFilesNameNoRegistry: whoever runs the tests has a registry of their own.
func TestLockFilesNameNoRegistry(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "node_modules":
			return filepath.SkipDir
		case entry.Name() != "package-lock.json":
			return nil
		}
		found++
		if strings.Contains(readFile(t, path), `"resolved"`) {
			t.Errorf("%s has resolved addresses: make it with npm install --package-lock-only --omit-lockfile-registry-resolved", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("there is no lock file")
	}
}

func writeScript(t *testing.T, path, script string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
