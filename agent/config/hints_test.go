package config

import (
	"errors"
	"strings"
	"testing"
)

// TestSlips are mistakes in YAML that people make again and again: the problem is in their own line,
// and has a hint.
func TestSlips(t *testing.T) {
	for _, tc := range []struct {
		name, line, hint string
	}{
		{"a variable between braces", `  one: { file: ${HOME}/x }`, `in quotes: "${NAME}"`},
		{"a variable between brackets", `  one: [${HOME}, x]`, `in quotes: "${NAME}"`},
		{"two variables between braces", `  one: { a: ${HOME}, b: ${HOME}/y }`, `in quotes: "${NAME}"`},
		{"a variable that is not closed", `  one: { file: ${HOME/x }`, "close the variable"},
		{"a tab", "\tone: x", "a tab here"},
		{"a tab after spaces", "  \tone: x", "a tab here"},
		{"a template without quotes", `  one: {{ (token "graph").AccessToken }} x`, "template: |"},
		{"an at sign", `  one: @home`, "in quotes"},
		{"a backquote", "  one: `x`", "in quotes"},
		{"a percent sign", `  one: %x`, "in quotes"},
		{"an asterisk", `  one: *`, ""},
		{"a backslash", `  one: "C:\Program Files\x"`, "single quotes"},
		{"an open quote", `  one: "x`, "not closed"},
		{"an open single quote", `  one: 'x`, "not closed"},
		{"text after a quote", `  one: "a" b`, "one pair of quotes"},
		{"a colon in a value", `  one: a: b`, "colon and a space"},
		{"an open brace", `  one: { a: b`, "not closed"},
		{"an open bracket", `  one: [a, b`, "not closed"},
		{"no colon", "  one", "a colon is missing"},
		{"an equals sign", "  one = x", "KEY = VALUE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := "# first\nzero:\n" + tc.line + "\n  two: y\nlast: z\n"
			_, err := Parse("c.yaml", []byte(text), lookup(map[string]string{"HOME": "/h"}))
			var all *Error
			if !errors.As(err, &all) || len(all.Problems) == 0 {
				t.Fatalf("Parse() = %v", err)
			}
			first := all.Problems[0]
			if first.Line != 3 || !strings.Contains(first.Hint, tc.hint) {
				t.Errorf("%v: want line 3 and the hint %q", first, tc.hint)
			}
		})
	}
}

// TestTemplateProblemsAreInTheirOwnLine: a template that stands in the file line by line.
func TestTemplateProblemsAreInTheirOwnLine(t *testing.T) {
	for name, tc := range map[string]struct {
		template string
		line     int
	}{
		"line by line": {"|\n      [auth]\n      x = {{ (token \"api\").Token }}", 11},
		"in one line":  {`'{{ (token "api").Token }}'`, 9},
		"folded":       {">\n      [auth]\n      x = {{ (token \"api\").Token }}", 9},
	} {
		t.Run(name, func(t *testing.T) {
			text := `clients:
  app:
    token_url: https://login.example/token
    client_id: app-1
    credential: { provider: secretcred, config: { secret_file: /s } }
tokens: { api: { client: app } }
sinks:
  - { type: file, token: api, path: /run/x/a }
  - template: ` + tc.template + `
    type: file
    path: /run/x/o
    format: template
`
			_, err := Parse("c.yaml", []byte(text), nil)
			var all *Error
			if !errors.As(err, &all) || len(all.Problems) != 1 {
				t.Fatalf("Parse() = %v", err)
			}
			if p := all.Problems[0]; p.Line != tc.line || p.Hint != "did you mean .AccessToken?" {
				t.Errorf("%v: want line %d", p, tc.line)
			}
		})
	}
}
