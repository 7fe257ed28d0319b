package examples_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// installed is where the documents install external providers.
const installed = "/usr/local/lib/credagent"

// exampleProvider is the built program of examples/provider, beside credagent's own.
func exampleProvider() string {
	return filepath.Join(filepath.Dir(program), "providers", "credagent-provider-jsoncred")
}

// buildProvider builds the example as its user would: in its own module.
func buildProvider() error {
	if err := os.Mkdir(filepath.Dir(exampleProvider()), 0o700); err != nil {
		return err
	}
	out, err := exec.Command("go", "-C", root+"/examples/provider", "build", "-o", exampleProvider(), ".").CombinedOutput()
	if err != nil {
		return fmt.Errorf("building examples/provider: %w\n%s", err, out)
	}
	return nil
}

// withProviders has a configuration find the example where the documents install it.
func withProviders(configuration string) string {
	return strings.ReplaceAll(configuration, installed, filepath.Dir(exampleProvider()))
}

// TestExternalProvider installs the example with its digest pinned, and gets a token with it.
func TestExternalProvider(t *testing.T) {
	p := newPlace(t)
	write(t, filepath.Join(p.credentials, "orders.json"), `{"username": "orders", "password": "`+canary+`"}`)
	content, err := os.ReadFile(exampleProvider())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(content)
	pinned := "  sha256: { jsoncred: " + hex.EncodeToString(digest[:]) + " }\n"
	example := withProviders(p.adapt(t, read(t, "examples/provider/credagent.yaml")))
	config := filepath.Join(t.TempDir(), "credagent.yaml")
	whole := "listen: \"\"\nlog: { level: debug }\n" + strings.Replace(example, "plugins:\n", "plugins:\n"+pinned, 1)
	write(t, config, whole)

	_, log := run(t, 0, environment(), "once", "-c", config)
	p.wantToken(t, p.sink(t, "orders.token"))
	if strings.Contains(log, canary) {
		t.Error("the log holds the client secret")
	}
	list, _ := run(t, 0, environment(), "plugins", "-c", config)
	found := regexp.MustCompile(`(?m)^jsoncred\s+\S+\s+yes\s+` + regexp.QuoteMeta(exampleProvider()) + `\s+-$`)
	if !found.MatchString(list) {
		t.Errorf("credagent does not list the provider without a problem:\n%s", list)
	}
	write(t, config, strings.Replace(whole, pinned, "  sha256: { jsoncred: "+strings.Repeat("f", 64)+" }\n", 1))
	if _, stderr := run(t, 78, environment(), "once", "-c", config); !strings.Contains(stderr, "but plugins.sha256 pins ffff") {
		t.Errorf("with another pin it says:\n%s", stderr)
	}
}

// TestProviderInDocumentsIsTheExample keeps the two from drifting apart, and the example short.
func TestProviderInDocumentsIsTheExample(t *testing.T) {
	example := read(t, "examples/provider/main.go")
	if shown := blocks(read(t, "docs/providers.md"), "go"); len(shown) == 0 || shown[0] != example {
		t.Error("the first block of Go in docs/providers.md is not examples/provider/main.go")
	}
	if lines := strings.Count(example, "\n"); lines >= 60 {
		t.Errorf("the provider has %d lines, want fewer than 60", lines)
	}
}
