package config

import (
	"slices"
	"testing"
)

func TestTokensThatTheSidecarGivesNobody(t *testing.T) {
	for name, c := range map[string]struct {
		allow string
		want  []string
	}{
		"the agent's user alone": {"", nil},
		"a user":                 {"allow: [{ user: app }]", nil},
		"a user and a group":     {"allow: [{ group: web }, { user: app }]", nil},
		"a group": {"allow: [{ group: web }]", []string{
			`auth_sidecar.token_for.Graph: token "own" allows groups only, but for a TCP connection the kernel reports only the user; list users too`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			doc := "auth_sidecar: { listen: 127.0.0.1:1, token_for: { Graph: own } }\n" + minimal + minimalTail + "  own: { client: app, " + c.allow + " }\n"
			parsed, err := Parse("", []byte(doc), nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, warning := range parsed.Warnings {
				warning.Position = Position{}
				got = append(got, warning.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("warnings %q, want %q", got, c.want)
			}
		})
	}
}

func TestSinksThatDoNotSuitTheirReader(t *testing.T) {
	const libpq = `libpq ignores a password file that more than its owner may read; use mode "0600", and owner for another user`
	cases := map[string]struct {
		sink string
		want []string
	}{
		"Envoy, JSON":          {`{ type: file, token: graph, format: envoy_sds, path: /run/x.json }`, nil},
		"Envoy, YAML":          {`{ type: file, token: graph, format: envoy_sds, path: /run/x.yaml }`, nil},
		"Envoy, another name":  {`{ type: file, token: graph, format: envoy_sds, path: /run/x.token }`, []string{"sinks[0].path: Envoy reads a file of secrets as JSON only if its name ends in .json"}},
		"JSON, any name":       {`{ type: file, token: graph, format: json, path: /run/x.token }`, nil},
		"libpq, its owner's":   {`{ type: file, format: template, path: /run/x.pgpass, template: '*:*:*:app:{{ (token "graph").AccessToken }}' }`, nil},
		"libpq, the group's":   {`{ type: file, format: template, path: /run/.pgpass, mode: "0640", template: '{{ (token "graph").AccessToken }}' }`, []string{"sinks[0].mode: " + libpq}},
		"libpq, by content":    {`{ type: file, format: template, path: /run/x, mode: "0604", template: 'db.example.com:5432:*:app:{{ (token "graph").AccessToken }}' }`, []string{"sinks[0].mode: " + libpq}},
		"libpq, other readers": {`{ type: file, format: template, path: /run/x.pgpass, readers: [{ user: app }], template: '{{ (token "graph").AccessToken }}' }`, []string{"sinks[0].readers: " + libpq}},
		"colons alone":         {`{ type: file, format: template, path: /run/x, mode: "0640", template: 'https://a:443/b:{{ (token "graph").AccessToken }}' }`, nil},
		"one scope":            {`{ type: env, path: /run/x, variables: { A: graph.scope } }`, nil},
		"two scopes":           {`{ type: env, path: /run/x, variables: { A: two.scope, B: two } }`, []string{`sinks[0].variables.A: token "two" has 2 scopes, and an env file cannot hold the space between them`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			doc := minimal + minimalTail + "  two: { client: app, scopes: [a, b] }\nsinks:\n  - " + c.sink + "\n"
			parsed, err := Parse("", []byte(doc), nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, warning := range parsed.Warnings {
				warning.Position = Position{}
				got = append(got, warning.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("warnings %q, want %q", got, c.want)
			}
		})
	}
}
