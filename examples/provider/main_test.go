package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/credagent/credagent/plugins/plugintest"
)

func TestConformance(t *testing.T) { plugintest.Run(t, config(t)) }

// TestExecutable tests the program that is installed.
func TestExecutable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credagent-provider-jsoncred")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("building it: %v\n%s", err, out)
	}
	plugintest.RunExecutable(t, path, config(t))
}

func config(t *testing.T) plugintest.Config {
	return plugintest.Config{
		Provider: provider{},
		Config:   map[string]any{"secret_file": document(t, `{"password": "canary-of-jsoncred"}`), "field": "password"},
		Rotated:  map[string]any{"secret_file": document(t, `{"password": "the-next-canary"}`), "field": "password"},
		Bad:      []map[string]any{{}, {"field": "password"}},
		Secrets:  []string{"canary-of-jsoncred"},
	}
}

func document(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
