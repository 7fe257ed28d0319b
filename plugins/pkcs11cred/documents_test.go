package pkcs11cred

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/credagent/credagent/plugins/internal/credtest"
)

// section is what stands in docs/providers.md between a heading and the next of its kind.
func section(t *testing.T, heading, next string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/providers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), heading)
	if !found {
		t.Fatalf("docs/providers.md has no section %q", heading)
	}
	rest, _, _ = strings.Cut(rest, next)
	return rest
}

func TestEveryKeyIsDocumented(t *testing.T) {
	_, err := New().Open(credtest.Config(t, map[string]any{"bogus": 1}))
	match := regexp.MustCompile(`bogus: unknown key; known are ([a-z0-9_, ]+)`).FindStringSubmatch(err.Error())
	if match == nil {
		t.Fatalf("the provider does not list its keys: %v", err)
	}
	documented := firstCells(section(t, "## Keys on tokens: pkcs11cred\n", "\n## "))
	// From auth_method on, the keys are those of certcred.
	_, shared, _ := strings.Cut(section(t, "### certcred\n", "\n### "), "| `private_key_jwt` |")
	documented = append(documented, firstCells(shared)...)
	for _, key := range strings.Split(strings.TrimSpace(match[1]), ", ") {
		if !slices.Contains(documented, key) {
			t.Errorf("%s is not documented", key)
		}
	}
}

// firstCells returns what stands as code in the first cells of a text's tables.
func firstCells(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if cell, ok := strings.CutPrefix(line, "| `"); ok {
			cell, _, _ = strings.Cut("`"+cell, "|")
			for _, match := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
				all = append(all, match[1])
			}
		}
	}
	return all
}

// The example is a sound configuration, for who has the files that it names.
func TestExampleIsSound(t *testing.T) {
	example := regexp.MustCompile("(?ms)^```yml\n(.*?)^```$").FindStringSubmatch(section(t, "## Keys on tokens: pkcs11cred\n", "\n## "))
	if example == nil {
		t.Fatal("the section has no example")
	}
	p := install(t)
	config := t.TempDir() + "/credagent.yaml"
	write(t, config, strings.ReplaceAll(example[1], "/usr/local/lib/credagent", p.dir))
	if status, log := p.run(t.Context(), t, "validate", "-c", config); status != 0 {
		t.Errorf("validate exits with %d: %s", status, log)
	}
}
