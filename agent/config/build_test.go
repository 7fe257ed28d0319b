package config

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/sink"
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
	signed := Token{Name: "t", Client: "c", Grant: GrantJWTBearer, Subject: "u", AssertionClaims: json.RawMessage(`{"a":{"b":1}}`)}
	if got, err := CompleteToken(signed, c); err != nil || got.Grant != GrantJWTBearer || got.Subject != "u" || string(got.AssertionClaims) != `{"a":{"b":1}}` || token.Grant != GrantClientCredentials {
		t.Errorf("%+v, %v", got, err)
	}
	signed.Client = "other"
	if _, err := CompleteToken(signed, c); err == nil {
		t.Error("a token of another client is complete")
	}
	s, err := CompleteSink(Sink{Type: SinkFile, Path: "/run/t", Token: "t"})
	if err != nil || s.Mode != defaultSinkMode || s.Format != sink.FormatRaw {
		t.Errorf("%+v, %v", s, err)
	}
}

// canaryOfConfig stands in configurations that are refused, and must not show.
const canaryOfConfig = "s3cr3t-canary"

type refusedObject struct {
	name string
	do   func() error
	want string
}

func refusedClient(name string, change func(*Client), want string) refusedObject {
	return refusedObject{name, func() error {
		c := Client{Name: "c", TokenURL: "https://sts.example.com/token", ClientID: "id", Credential: Credential{Provider: "secretcred"}}
		change(&c)
		_, err := CompleteClient(c)
		return err
	}, want}
}

func refusedToken(name string, change func(*Token), want string) refusedObject {
	return refusedObject{name, func() error {
		t := Token{Name: "t", Client: "c", Scopes: []string{"https://x.example.com/.default"}}
		change(&t)
		_, err := CompleteToken(t, Client{Name: "c", Entra: &Entra{Tenant: "x"}})
		return err
	}, want}
}

func refusedSink(name string, s Sink, want string) refusedObject {
	return refusedObject{name, func() error { _, err := CompleteSink(s); return err }, want}
}

func TestCompleteRefusesWhatAFileMayNotHave(t *testing.T) {
	for _, test := range []refusedObject{
		refusedClient("no name", func(c *Client) { c.Name = "" }, "is not a name"),
		refusedClient("name of a path", func(c *Client) { c.Name = "../c" }, "is not a name"),
		refusedClient("two origins", func(c *Client) { c.Issuer = "https://x.example.com" }, "want exactly one of entra, issuer and token_url, found 2"),
		refusedClient("plain http", func(c *Client) { c.TokenURL = "http://sts.example.com" }, "clients.c.token_url"),
		refusedClient("no client_id", func(c *Client) { c.ClientID = "" }, `missing key "client_id"`),
		refusedClient("no credential", func(c *Client) { c.Credential = Credential{} }, `missing key "credential"`),
		refusedClient("config that is no object", func(c *Client) { c.Credential.Config = json.RawMessage(`["` + canaryOfConfig + `"]`) }, "not a JSON object"),
		refusedClient("config that is no JSON", func(c *Client) { c.Credential.Config = json.RawMessage(`{"x":"` + canaryOfConfig) }, "not a JSON object"),
		refusedClient("two configs", func(c *Client) { c.Credential.Config = json.RawMessage(`{} {}`) }, "not a JSON object"),
		refusedClient("a secret in it", func(c *Client) {
			c.Credential.Config = json.RawMessage(`{"a":[{"Client-Secret":"` + canaryOfConfig + `"}]}`)
		}, "a secret in key"),
		refusedClient("timeout too long", func(c *Client) { c.RequestTimeout = time.Hour }, "longer than 2m"),
		refusedClient("timeout below zero", func(c *Client) { c.RequestTimeout = -time.Second }, "shorter than 1s"),
		refusedToken("another client's token", func(t *Token) { t.Client = "d" }, `unknown client "d"`),
		refusedToken("scopes that Entra refuses", func(t *Token) { t.Scopes = []string{"User.Read"} }, "tokens.t.scopes"),
		refusedToken("no scope at Entra", func(t *Token) { t.Scopes = nil }, "tokens.t"),
		refusedToken("share below zero", func(t *Token) { t.RefreshAt = -0.5 }, "tokens.t.refresh_at"),
		refusedToken("a grant that Entra has not", func(t *Token) { t.Grant = GrantJWTBearer }, "tokens.t.grant"),
		refusedToken("claims of no grant", func(t *Token) { t.AssertionClaims = json.RawMessage(`{"a":1}`) }, "tokens.t.assertion_claims"),
		refusedToken("claims that are no object", func(t *Token) { t.AssertionClaims = json.RawMessage(`["` + canaryOfConfig + `"]`) }, "not a JSON object"),
		refusedToken("share of all", func(t *Token) { t.RefreshAt = 1 }, "is not a percentage"),
		refusedToken("our own parameter", func(t *Token) { t.Params = map[string]string{"grant_type": "x"} }, "credagent sets the parameter"),
		refusedSink("a sink of no type", Sink{Path: "/run/x", Token: "t"}, `missing key "type"`),
		refusedSink("a relative path", Sink{Type: SinkFile, Path: "x", Token: "t"}, "not an absolute path"),
		refusedSink("no token", Sink{Type: SinkFile, Path: "/run/x"}, `missing key "token"`),
		refusedSink("executable", Sink{Type: SinkFile, Path: "/run/x", Token: "t", Mode: 0o755}, "executable"),
		refusedSink("a template of no token", Sink{Type: SinkFile, Path: "/run/x", Format: sink.FormatTemplate, Template: "x"}, "uses no token"),
		refusedSink("an action of nothing", Sink{Type: SinkFile, Path: "/run/x", Token: "t", OnChange: []Action{{}}}, "want exactly one of signal and command"),
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.do()
			var problems *Error
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want one with %q", err, test.want)
			}
			if strings.Contains(err.Error(), canaryOfConfig) {
				t.Errorf("the error shows what is in the configuration: %v", err)
			}
		})
	}
}
