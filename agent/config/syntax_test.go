package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSyntaxErrorsAreAtTheirOwnLine(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		line int
	}{
		"a wrong indent":            {"clients:\n  a:\n    b: 1\n   c: 2\ntokens: {}\n", 4},
		"less in a list":            {"sinks:\n    - a: 1\n  - b: 2\n", 3},
		"an open brace":             {"log: {}\nclients:\n  a: { b: 1\ntokens: {}\nsinks: []\n", 3},
		"an open bracket":           {"log: {}\nsinks: [{ a: 1 },\ntokens: {}\n", 2},
		"two values":                {"log: {}\nclients:\n  a: x: y\ntokens: {}\n", 3},
		"an open quote":             {"clients:\n  a:\n    b: \"x\n    c: d\ntokens: {}\n", 3},
		"an open single quote":      {"clients:\n  a:\n    b: 'x\n    c: d\n", 3},
		"a tab":                     {"clients:\n  a:\n\tb: x\n    c: d\n", 3},
		"no space after the colon":  {"log:\n  level: info\n  format:text\nwatch: true\n", 3},
		"an unknown escape":         {"log:\n  level: \"\\q\"\n", 2},
		"a percent sign":            {"log: {}\ntokens:\n  refresh_at: %50\n", 3},
		"an at sign":                {"log: {}\ntokens:\n  x: @home\n", 3},
		"after a list over lines":   {"a: [1,\n  2,\n  3]\nb:\n  c: 1\n d: 2\n", 6},
		"after a text over lines":   {"a: |\n  one: two: three\n  }{\nb: x: y\n", 4},
		"in the first line":         {"a: b: c\n", 1},
		"in a file with Windows' n": {"a: 1\r\nb: x: y\r\n", 2},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("c.yaml", []byte(tc.text), nil)
			if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("c.yaml:%d:", tc.line)) || !strings.Contains(err.Error(), "not valid YAML") {
				t.Errorf("%v, want line %d", err, tc.line)
			}
		})
	}
}

func TestABrokenLineOfALargeFileIsFoundSoon(t *testing.T) {
	text := strings.Repeat("a:\n  - b: c\n", 5000) + "x: y: z\n" + strings.Repeat("a:\n  - b: c\n", 5000)
	if line, found := searchAtLittleCost(t, text); !found || line != 10001 {
		t.Errorf("line %d, %v", line, found)
	}
}

// A mistake that shows at the end of a large file, far behind its line, is not searched for at any price.
func TestABrokenLineFarAwayCostsLittle(t *testing.T) {
	for name, lines := range map[string]int{"too far": 20_000, "too large": 60_000} {
		if line, found := searchAtLittleCost(t, "x: [\n"+strings.Repeat("{ k: v },\n", lines)); found {
			t.Errorf("%s: line %d", name, line)
		}
	}
}

// searchAtLittleCost searches for the broken line. The search may cost no more than a hundred times what it
// takes to parse the text, or to allow for noise, 100 ms.
func searchAtLittleCost(t *testing.T, text string) (line int, found bool) {
	t.Helper()
	began := time.Now()
	yamlFault([]byte(text))
	parsed := time.Now()
	line, found = brokenLine([]byte(text))
	once, took := parsed.Sub(began), time.Since(parsed)
	if took > 100*max(once, time.Millisecond) {
		t.Errorf("the search took %v, parsing once %v", took, once)
	}
	return line, found
}

func TestExamineReturnsWhatCanBeRead(t *testing.T) {
	for name, tc := range map[string]struct {
		file     string
		clients  int
		problems int
	}{
		"sound":              {"clients: { a: { token_url: 'https://x.example/t', client_id: a, credential: { provider: secretcred } } }\ntokens: { t: { client: a } }\n", 1, 0},
		"an unknown key":     {"clients: { a: { token_url: 'https://x.example/t', client_id: a, credential: { provider: secretcred } } }\ntokens: { t: { client: a, sopes: [x] } }\n", 1, 1},
		"a client's name":    {"clients: { 'a b': { token_url: 'https://x.example/t', client_id: a, credential: { provider: secretcred } } }\ntokens: { t: { client: 'a b' } }\n", 1, 1},
		"a token's client":   {"clients: { a: { token_url: 'https://x.example/t', client_id: a, credential: { provider: secretcred } } }\ntokens: { t: { client: b } }\n", 1, 1},
		"no YAML":            {"a: b: c\n", -1, 1},
		"not a mapping":      {"[]\n", -1, 1},
		"nothing":            {"", -1, 1},
		"a client in pieces": {"clients: { a: 1 }\ntokens: { t: { client: a } }\n", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.yaml")
			if err := os.WriteFile(path, []byte(tc.file), 0o600); err != nil {
				t.Fatal(err)
			}
			c, problems := Examine(path, nil)
			clients := -1
			if c != nil {
				clients = len(c.Clients)
			}
			if clients != tc.clients || len(problems) != tc.problems {
				t.Errorf("%d clients, problems %v", clients, problems)
			}
		})
	}
}
