package agent

import (
	"strings"
	"testing"

	"github.com/credagent/credagent/agent/config"
)

const twoClients = `clients:
  one: { SERVER, client_id: app, credential: { provider: secretcred, config: { secret_file: /one } } }
  two: { OTHER, client_id: NUMBER, credential: { provider: secretcred, config: { secret_file: FILE } } MORE}
tokens:
  a: { client: one, scopes: [https://a.example/.default] }
  b: { client: two, scopes: [https://b.example/.default] }
sinks:
  - { type: file, path: /run/a, token: a }
  - { type: file, path: /run/b, token: b }
`

// TestSharedClients: however the server is written.
func TestSharedClients(t *testing.T) {
	const at = "token_url: https://login.example.com/token"
	const tenant = "entra: { tenant: contoso.example }"
	fallback := ", fallback_credential: { provider: secretcred, config: { secret_file: /three } }"
	for name, tc := range map[string]struct {
		server, other, id, file, fallback string
		want                              bool
	}{
		"two secrets":           {at, at, "app", "/two", "", true},
		"respelled":             {at, "token_url: https://LOGIN.example.com:443/token", "app", "/two", "", true},
		"entra":                 {tenant, tenant, "app", "/two", "", true},
		"entra and its address": {tenant, "token_url: https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token", "app", "/two", "", true},
		"issuer":                {"issuer: https://id.example.com", "issuer: https://id.example.com:443", "app", "/two", "", true},
		"a fallback more":       {at, at, "app", "/one", fallback, true},
		"one secret":            {at, at, "app", "/one", "", false},
		"two clients":           {at, at, "other", "/two", "", false},
		"two servers":           {at, "token_url: https://other.example.com/token", "app", "/two", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			doc := strings.NewReplacer("SERVER", tc.server, "OTHER", tc.other, "NUMBER", tc.id, "FILE", tc.file, "MORE", tc.fallback).Replace(twoClients)
			cfg, err := config.Parse("c.yaml", []byte(doc), nil)
			if err != nil {
				t.Fatal(err)
			}
			found := SharedClients(cfg)
			if (len(found) == 1) != tc.want {
				t.Fatalf("found %v", found)
			}
			if tc.want && (!strings.HasPrefix(found[0].String(), "c.yaml:3:") || !strings.Contains(found[0].String(), `clients.two.credential: client "two" has the client_id and the server of client "one", but another credential`) || found[0].Hint == "") {
				t.Errorf("found %v", found)
			}
		})
	}
}
