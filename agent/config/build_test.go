package config

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// everyKey is a configuration in which no key of a client, a token or a sink is left out.
const everyKey = `
clients:
  entra:
    entra: {tenant: contoso.onmicrosoft.com, cloud: china}
    client_id: 11111111-2222-3333-4444-555555555555
    ca_file: /etc/ca.pem
    proxy: http://proxy.example.com:3128
    request_timeout: 7s
    credential: {provider: certcred, config: {certificate_file: /c.pem, private_key_file: /k.pem, depth: {of: [1, 2.5, true]}}}
    fallback_credential: {provider: secretcred, config: {secret_file: /s}}
  plain: {token_url: "http://sts.example.com/token", allow_insecure_http: true, client_id: a b, credential: {provider: jwtcred}}
  found: {issuer: "https://issuer.example.com", client_id: id, credential: {provider: secretcred, config: {secret_file: /s}}}
tokens:
  graph: {client: entra, scopes: ["https://graph.microsoft.com/.default"], refresh_at: 33.333%, cae: true, allow: [{user: www}, {group: 42}]}
  orders.eu:
    client: plain
    scopes: [read, write]
    audience: orders
    resources: ["https://orders.example.com"]
    params: {tenant: "", other: x}
    claims: '{"access_token":{}}'
    default_lifetime: 90s
  found: {client: found}
sinks:
  - {type: file, path: /run/graph, token: graph, format: header, mode: "0640", owner: root, group: 5, readers: [{user: www}],
     on_change: [{signal: {pid_file: /run/x.pid, signal: SIGHUP}}, {command: {run: [/bin/echo, ""], timeout: 3s}}]}
  - {type: file, path: /run/template, format: template, template: 'x {{ (token "graph").AccessToken }} {{ (token "orders.eu").Expiry }}'}
  - {type: env, path: /run/env, variables: {TOKEN: orders.eu, SCOPE: graph.scope}}
`

// TestCompleteMakesWhatAFileDoes: what a file says and what a program makes of the same fields are one.
func TestCompleteMakesWhatAFileDoes(t *testing.T) {
	want, err := Parse("test", []byte(everyKey), nil)
	if err != nil {
		t.Fatal(err)
	}
	clients := map[string]Client{}
	for _, c := range want.Clients {
		clients[c.Name] = c
		got, err := CompleteClient(c)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("client %s: %v\n got %+v\nwant %+v", c.Name, err, got, c)
		}
	}
	for _, token := range want.Tokens {
		got, err := CompleteToken(token, clients[token.Client])
		if err != nil || !reflect.DeepEqual(got, token) {
			t.Errorf("token %s: %v\n got %+v\nwant %+v", token.Name, err, got, token)
		}
	}
	for _, s := range want.Sinks {
		got, err := CompleteSink(s)
		got.Place = s.Place
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("sink %s: %v\n got %+v\nwant %+v", s.Path, err, got, s)
		}
	}
}

func TestCompleteFillsInDefaults(t *testing.T) {
	c, err := CompleteClient(Client{Name: "c", TokenURL: "https://sts.example.com/token", ClientID: "id", Credential: Credential{Provider: "secretcred"}})
	if err != nil || c.RequestTimeout != defaultRequestTimeout || string(c.Credential.Config) != "{}" {
		t.Errorf("%+v, %v", c, err)
	}
	token, err := CompleteToken(Token{Name: "t", Client: "c"}, c)
	if err != nil || token.RefreshAt != defaultRefreshAt || token.DefaultLifetime != defaultLifetime {
		t.Errorf("%+v, %v", token, err)
	}
	s, err := CompleteSink(Sink{Type: SinkFile, Path: "/run/t", Token: "t"})
	if err != nil || s.Mode != defaultSinkMode || s.Format != FormatRaw {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestCompleteRefusesWhatAFileMayNotHave(t *testing.T) {
	client := func(change func(*Client)) func() error {
		return func() error {
			c := Client{Name: "c", TokenURL: "https://sts.example.com/token", ClientID: "id", Credential: Credential{Provider: "secretcred"}}
			change(&c)
			_, err := CompleteClient(c)
			return err
		}
	}
	token := func(change func(*Token)) func() error {
		return func() error {
			t := Token{Name: "t", Client: "c"}
			change(&t)
			_, err := CompleteToken(t, Client{Name: "c", Entra: &Entra{Tenant: "x"}})
			return err
		}
	}
	sinkOf := func(s Sink) func() error {
		return func() error { _, err := CompleteSink(s); return err }
	}
	const canary = "s3cr3t-canary"
	for _, test := range []struct {
		name string
		do   func() error
		want string
	}{
		{"no name", client(func(c *Client) { c.Name = "" }), "is not a name"},
		{"name of a path", client(func(c *Client) { c.Name = "../c" }), "is not a name"},
		{"two origins", client(func(c *Client) { c.Issuer = "https://x.example.com" }), "want exactly one of entra, issuer and token_url, found 2"},
		{"plain http", client(func(c *Client) { c.TokenURL = "http://sts.example.com" }), "clients.c.token_url"},
		{"no client_id", client(func(c *Client) { c.ClientID = "" }), `missing key "client_id"`},
		{"no credential", client(func(c *Client) { c.Credential = Credential{} }), `missing key "credential"`},
		{"config that is no object", client(func(c *Client) { c.Credential.Config = json.RawMessage(`["` + canary + `"]`) }), "not a JSON object"},
		{"config that is no JSON", client(func(c *Client) { c.Credential.Config = json.RawMessage(`{"x":"` + canary) }), "not a JSON object"},
		{"two configs", client(func(c *Client) { c.Credential.Config = json.RawMessage(`{} {}`) }), "not a JSON object"},
		{"a secret in it", client(func(c *Client) { c.Credential.Config = json.RawMessage(`{"a":[{"Client-Secret":"` + canary + `"}]}`) }), "a secret in key"},
		{"timeout too long", client(func(c *Client) { c.RequestTimeout = time.Hour }), "longer than 2m"},
		{"timeout below zero", client(func(c *Client) { c.RequestTimeout = -time.Second }), "shorter than 1s"},
		{"another client's token", token(func(t *Token) { t.Client = "d" }), `unknown client "d"`},
		{"scopes that Entra refuses", token(func(t *Token) { t.Scopes = []string{"User.Read"} }), "tokens.t.scopes"},
		{"no scope at Entra", token(func(*Token) {}), "tokens.t"},
		{"share below zero", token(func(t *Token) { t.RefreshAt = -0.5; t.Scopes = []string{"https://x.example.com/.default"} }), "tokens.t.refresh_at"},
		{"share of all", token(func(t *Token) { t.RefreshAt = 1; t.Scopes = []string{"https://x.example.com/.default"} }), "is not a percentage"},
		{"our own parameter", token(func(t *Token) { t.Params = map[string]string{"grant_type": "x"} }), "credagent sets the parameter"},
		{"a sink of no type", sinkOf(Sink{Path: "/run/x", Token: "t"}), `missing key "type"`},
		{"a relative path", sinkOf(Sink{Type: SinkFile, Path: "x", Token: "t"}), "not an absolute path"},
		{"no token", sinkOf(Sink{Type: SinkFile, Path: "/run/x"}), `missing key "token"`},
		{"executable", sinkOf(Sink{Type: SinkFile, Path: "/run/x", Token: "t", Mode: 0o755}), "executable"},
		{"a template of no token", sinkOf(Sink{Type: SinkFile, Path: "/run/x", Format: FormatTemplate, Template: "x"}), "uses no token"},
		{"an action of nothing", sinkOf(Sink{Type: SinkFile, Path: "/run/x", Token: "t", OnChange: []Action{{}}}), "want exactly one of signal and command"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.do()
			var problems *Error
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want one with %q", err, test.want)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error shows what is in the configuration: %v", err)
			}
		})
	}
}
