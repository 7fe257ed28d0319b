package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestForCommand(t *testing.T) {
	const clients = `
clients: { app: { token_url: "https://a.example.com/token", client_id: app, credential: { provider: secretcred } } }
tokens: { a: { client: app }, b: { client: app } }
`
	for name, tc := range map[string]struct {
		rest   string
		tokens []string
		want   []Variable
		err    string
	}{
		"of every env sink": {
			rest: "sinks:\n- { type: env, path: /1, variables: { X: a, Y: a.scope } }\n- { type: file, token: a, path: /2 }\n- { type: env, path: /3, variables: { Z: b } }",
			want: []Variable{{Name: "X", Token: "a"}, {Name: "Y", Token: "a", Field: "scope"}, {Name: "Z", Token: "b"}},
		},
		"of the tokens chosen": {
			rest:   "sinks:\n- { type: env, path: /1, variables: { X: a } }\n- { type: env, path: /2, variables: { X: b, Y: b } }",
			tokens: []string{"b"},
			want:   []Variable{{Name: "X", Token: "b"}, {Name: "Y", Token: "b"}},
		},
		"the same twice": {
			rest: "sinks:\n- { type: env, path: /1, variables: { X: a } }\n- { type: env, path: /2, variables: { X: a } }",
			want: []Variable{{Name: "X", Token: "a"}},
		},
		"two of one name": {
			rest: "sinks:\n- { type: env, path: /1, variables: { X: a } }\n- { type: env, path: /2, variables: { X: a.expiry } }",
			err:  "c:6:42: sinks[1].variables.X: another env sink gives it another value",
		},
		"files alone":        {rest: "sinks: [{ type: file, token: a, path: /1 }]"},
		"nothing to read":    {rest: "sinks: []", err: "c:4:1: sinks: no sink shows only the tokens chosen"},
		"nothing of a token": {rest: "sinks: [{ type: file, token: a, path: /1 }]", tokens: []string{"b"}, err: "sinks: no sink shows only the tokens chosen"},
		"a socket":           {rest: "socket: { path: /s }"},
		"an identity": {
			rest: "identity_endpoint: { listen: 127.0.0.1:1, header_file: /h, token_for: { r: a } }",
		},
		"a sidecar": {
			rest: "auth_sidecar: { listen: 127.0.0.1:1, token_for: { r: a } }",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := Parse("c", []byte(clients+tc.rest+"\n"), nil)
			if err == nil {
				cfg, err = cfg.Only(tc.tokens)
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := cfg.ForCommand()
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("variables %v, want %v", got, tc.want)
			}
		})
	}
}

func TestFromEnvForCommand(t *testing.T) {
	for name, tc := range map[string]struct {
		changes map[string]string
		want    []Variable
		err     string
	}{
		"without a name": {nil, []Variable{{Name: "ACCESS_TOKEN", Token: "default"}}, ""},
		"with a name":    {map[string]string{"CREDAGENT_ENV_VARIABLE": "TOKEN"}, []Variable{{Name: "TOKEN", Token: "default"}}, ""},
		"with a file": {
			map[string]string{"CREDAGENT_ENV_FILE": "/run/e", "CREDAGENT_ENV_VARIABLE": "TOKEN"}, []Variable{{Name: "TOKEN", Token: "default"}}, "",
		},
		"with a bad name": {
			map[string]string{"CREDAGENT_ENV_VARIABLE": "hunter-2"}, nil, "environment: CREDAGENT_ENV_VARIABLE: not the name of a variable that a shell can set",
		},
	} {
		t.Run(name, func(t *testing.T) {
			setEnvironment(t, ownEnvironment(tc.changes))
			cfg, err := FromEnvForCommand()
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Errorf("error %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := cfg.ForCommand(); err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("variables %v, %v; want %v", got, err, tc.want)
			}
		})
	}
}
