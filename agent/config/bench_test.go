package config

import (
	"bytes"
	"fmt"
	"testing"

	"go.yaml.in/yaml/v3"
)

// BenchmarkParse measures a configuration of many tokens, with a sink for each, beside what the YAML
// library alone makes of it.
func BenchmarkParse(b *testing.B) {
	for _, tokens := range []int{100, 10_000} {
		text := many(tokens)
		b.Run(fmt.Sprintf("tokens=%d/by=credagent", tokens), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c, err := Parse("many.yaml", text, nil); err != nil || len(c.Tokens) != tokens {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("tokens=%d/by=yaml", tokens), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var c struct {
					Clients map[string]any
					Tokens  map[string]struct {
						Client string
						Scopes []string
					}
					Sinks []struct{ Type, Token, Path string }
				}
				if err := yaml.Unmarshal(text, &c); err != nil || len(c.Tokens) != tokens {
					b.Fatal(err)
				}
			}
		})
	}
}

func many(tokens int) []byte {
	var text bytes.Buffer
	text.WriteString("clients:\n")
	for i := range 10 {
		fmt.Fprintf(&text, "  c%d: { token_url: https://login.example.com/token, client_id: app%d, credential: { provider: secretcred, config: { secret_file: /etc/secret } } }\n", i, i)
	}
	text.WriteString("tokens:\n")
	for i := range tokens {
		fmt.Fprintf(&text, "  t%d: { client: c%d, scopes: [read] }\n", i, i%10)
	}
	text.WriteString("sinks:\n")
	for i := range tokens {
		fmt.Fprintf(&text, "  - { type: file, token: t%d, path: /run/credagent/t%d }\n", i, i)
	}
	return text.Bytes()
}
