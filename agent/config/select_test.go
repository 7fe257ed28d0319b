package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const three = `
clients:
  one: { token_url: "https://a.example.com/token", client_id: one, credential: { provider: secretcred } }
  two: { token_url: "https://b.example.com/token", client_id: two, credential: { provider: secretcred } }
tokens:
  a: { client: one, scopes: [read] }
  b: { client: one, scopes: [write] }
  c: { client: two, scopes: [read] }
sinks:
  - { type: file, token: a, path: /run/a }
  - { type: file, token: c, path: /run/c }
  - { type: file, path: /run/t, format: template, template: '{{ (token "a").AccessToken }}{{ (token "b").AccessToken }}' }
  - { type: env, path: /run/e, variables: { A: a, C: c.expires_on } }
`

func TestOnly(t *testing.T) {
	cfg, err := Parse("test", []byte(three), nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		tokens  []string
		clients string
		sinks   string
	}{
		{"no names are all", nil, "one two", "/run/a /run/c /run/t /run/e"},
		{"one token", []string{"a"}, "one", "/run/a"},
		{"a template needs all its tokens", []string{"a", "b"}, "one", "/run/a /run/t"},
		{"an env sink too", []string{"c", "a"}, "one two", "/run/a /run/c /run/e"},
		{"a token without a sink", []string{"b"}, "one", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			part, err := cfg.Only(test.tokens)
			if err != nil {
				t.Fatal(err)
			}
			var clients, sinks []string
			for _, c := range part.Clients {
				clients = append(clients, c.Name)
			}
			for _, s := range part.Sinks {
				sinks = append(sinks, s.Path)
			}
			if got := strings.Join(clients, " "); got != test.clients {
				t.Errorf("clients %q, want %q", got, test.clients)
			}
			if got := strings.Join(sinks, " "); got != test.sinks {
				t.Errorf("sinks %q, want %q", got, test.sinks)
			}
			for _, token := range part.Tokens {
				if len(test.tokens) > 0 && !slices.Contains(test.tokens, token.Name) {
					t.Errorf("token %s was not asked for", token.Name)
				}
			}
		})
	}

	var bad *Error
	if _, err := cfg.Only([]string{"nobody"}); !errors.As(err, &bad) || !strings.Contains(err.Error(), `no token "nobody"; there are a, b, c`) {
		t.Errorf("an unknown token: %v", err)
	}
}

func TestSinkPlacesSurviveASelection(t *testing.T) {
	cfg, err := Parse("test", []byte(three), nil)
	if err != nil {
		t.Fatal(err)
	}
	part, err := cfg.Only([]string{"c"})
	if err != nil {
		t.Fatal(err)
	}
	at := part.Locate(part.Sinks[0].Place + ".path")
	if at.Line != 11 {
		t.Errorf("the sink stands in line %d, want 11", at.Line)
	}
}
