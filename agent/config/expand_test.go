package config

import (
	"errors"
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	env := lookup(map[string]string{"A": "1", "_b2": "two", "NESTED": "${A}$$", "EMPTY": "", "BINARY": "\xff"})
	for _, c := range []struct {
		name, in, want string
		expanded       bool
		err            string
	}{
		{name: "nothing", in: "plain", want: "plain"},
		{name: "one", in: "x${A}y", want: "x1y", expanded: true},
		{name: "two", in: "${A}${_b2}", want: "1two", expanded: true},
		{name: "empty value", in: "<${EMPTY}>", want: "<>", expanded: true},
		{name: "not twice", in: "${NESTED}", want: "${A}$$", expanded: true},
		{name: "dollar", in: "a$$b", want: "a$b"},
		{name: "escaped reference", in: "$${A}", want: "${A}"},
		{name: "dollar and reference", in: "$$${A}", want: "$1", expanded: true},
		{name: "lone dollar", in: "$x $", want: "$x $"},
		{name: "undefined", in: "${NOPE}", err: `environment variable "NOPE" is not set`},
		{name: "unclosed", in: "a${A", err: `"${" is not closed by "}"; write $$ for a dollar sign`},
		{name: "nameless", in: "${}", err: `"" is not the name of an environment variable; write $$ for a dollar sign`},
		{name: "odd name", in: "${A:-x}", err: `"A:-x" is not the name of an environment variable; write $$ for a dollar sign`},
		{name: "digit first", in: "${1}", err: `"1" is not the name of an environment variable; write $$ for a dollar sign`},
		{name: "not text", in: "${BINARY}", err: `environment variable "BINARY" is not valid UTF-8 text`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, expanded, err := expand(c.in, env)
			message := ""
			if err != nil {
				message = err.Error()
			}
			if got != c.want || expanded != c.expanded || message != c.err {
				t.Errorf("expand(%q) = %q, %v, %q, want %q, %v, %q", c.in, got, expanded, message, c.want, c.expanded, c.err)
			}
		})
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("${A}$$${B}", "value")
	f.Add("$", "")
	f.Add("${A", "${B}")
	f.Fuzz(func(t *testing.T, in, value string) {
		env := lookup(map[string]string{"A": value})
		out, _, err := expand(in, env)
		if err != nil {
			return
		}
		// Writing every dollar sign twice takes its meaning away.
		again, expanded, err := expand(strings.ReplaceAll(out, "$", "$$"), env)
		if err != nil || expanded || again != out {
			t.Errorf("expand(%q) = %q, which escaped expands to %q, %v, %v", in, out, again, expanded, err)
		}
	})
}

func TestSuggest(t *testing.T) {
	base := errors.New("there is no such key")
	for word, want := range map[string]string{
		"SCOPE": "there is no such key\n    hint: did you mean \"scopes\"?", "audience": "there is no such key",
	} {
		if err := Suggest(base, word, []string{"scopes", "client"}); err.Error() != want || !errors.Is(err, base) {
			t.Errorf("of %q it is %q, want %q", word, err, want)
		}
	}
}

func TestNearest(t *testing.T) {
	candidates := []string{"scopes", "client", "refresh_at", "claims"}
	for _, c := range []struct{ word, want string }{
		{"scope", "scopes"},
		{"scpoes", "scopes"},
		{"refreshat", "refresh_at"},
		{"cliams", "claims"},
		{"audience", ""},
		{"x", ""},
		{"", ""},
		{strings.Repeat("scopes", 20), ""},
	} {
		if got := nearest(c.word, candidates); got != c.want {
			t.Errorf("nearest(%q) = %q, want %q", c.word, got, c.want)
		}
	}
}
