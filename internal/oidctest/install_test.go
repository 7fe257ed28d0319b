//go:build unix

package oidctest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
			script, err := install(t.Context(), npm)
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
	if got, want := readFile(t, script), readFile(t, "server/server.mjs"); got != want {
		t.Errorf("%q does not hold the server", script)
	}
}

func TestInstallStartsAgainAfterAFailure(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	npm := filepath.Join(t.TempDir(), "npm")
	writeScript(t, npm, "echo the registry is away; exit 1")
	_, err := install(t.Context(), npm)
	if err == nil || !strings.Contains(err.Error(), "npm ci: exit status 1\nthe registry is away") {
		t.Fatalf("got %v, want what npm said", err)
	}

	writeScript(t, npm, "exit 0")
	if _, err := install(t.Context(), npm); err != nil {
		t.Error(err)
	}
}

func TestLockFileNamesNoRegistry(t *testing.T) {
	if lock := readFile(t, "server/package-lock.json"); strings.Contains(lock, `"resolved"`) {
		t.Error("package-lock.json has resolved addresses: make it with npm install --omit-lockfile-registry-resolved")
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
	return string(must(os.ReadFile(path))(t))
}
