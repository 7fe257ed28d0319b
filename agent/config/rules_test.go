package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// minimal and minimalTail are the smallest configuration, cut where keys can be put between.
const (
	minimal = `clients:
  app:
    token_url: https://login.example.com/token
    client_id: app-1
    credential: { provider: secretcred, config: { secret_file: /etc/secret } }
`
	minimalTail = `tokens:
  graph:
    client: app
`
)

// hasProblem checks that err is exactly the problems wanted, without their positions; "" is none.
func hasProblem(t *testing.T, err error, want string) {
	t.Helper()
	var problems *Error
	var got []string
	if errors.As(err, &problems) {
		for _, p := range problems.Problems {
			got = append(got, Problem{Path: p.Path, Message: p.Message}.String())
		}
	}
	if got := strings.Join(got, "\n"); got != want {
		t.Errorf("problems\n%s\nwant\n%s", got, want)
	}
}

// A rule is a line put in one place of the smallest configuration, and the problem it makes.
type rule struct{ name, line, want string }

// check parses each rule's document, made by build, with every feature at hand.
func check(t *testing.T, rules []rule, build func(line string) string) {
	t.Helper()
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			_, err := Parse("c", []byte(build(r.line)), lookup(map[string]string{
				"EMPTY": "", "PROXY": "http://user:hunter2@proxy:3128", "VALUE": "hunter2",
				"HASH": "http://u:hunter2#@p:3128", "SLASH": "http://u:hunter2/@p:3128/", "QUERY": "http://u:hunter2?@p:3128",
				"AT": "http://u:hunter2@x@p:3128", "PERCENT": "http://u:hunter2%@p:3128",
			}))
			hasProblem(t, err, r.want)
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a value of the environment is shown: %v", err)
			}
		})
	}
}

func TestTopRules(t *testing.T) {
	check(t, []rule{
		{"nothing more", "", ""},
		{"info", "log: { level: info }", ""},
		{"null section", "log:", ""},
		{"unknown level", "log: { level: trace }", `log.level: unknown value "trace", want one of debug, error, info, warn`},
		{"level from the environment", "log: { level: '$${x}${VALUE}' }", `log.level: unknown value "$${x}${VALUE}", want one of debug, error, info, warn`},
		{"listen off", `listen: ""`, ""},
		{"listen everywhere", `listen: ":9465"`, ""},
		{"listen on IPv6", `listen: "[::1]:9465"`, ""},
		{"listen without a port", "listen: localhost", `listen: "localhost" is not host:port`},
		{"listen on a named port", "listen: localhost:http", `listen: "localhost:http" does not end in a port number from 0 to 65535`},
		{"listen on port 65536", "listen: localhost:65536", `listen: "localhost:65536" does not end in a port number from 0 to 65535`},
		{"listen on an odd host", `listen: "a b:1"`, `listen: "a b:1" does not start with a host name or IP address`},
		{"watch as text", "watch: yes", "watch: found a string, want true or false"},
		{"state without a key", "state: { dir: /var/lib/x }", `state: missing key "key_file"`},
		{"key for its file", "state: { dir: /x, key_file: AGE-SECRET-KEY-1CANARY }", "state.key_file: not an absolute path"},
		{"relative state", "state: { dir: x, key_file: /k }", `state.dir: "x" is not an absolute path`},
		{"socket for everybody", `socket: { path: /run/s, mode: "0666", group: 10 }`, ""},
		{"socket for all others", `socket: { path: /run/s, mode: "0606" }`, ""},
		{"socket for everybody to run", `socket: { path: /run/s, mode: "0777" }`, `socket.mode: "0777" makes the file executable`},
		{"socket with a sticky bit", `socket: { path: /run/s, mode: "1666" }`, `socket.mode: "1666" has the setuid, setgid or sticky bit`},
		{"socket path too long", "socket: { path: /" + strings.Repeat("x", 107) + " }", "socket.path: longer than the 107 bytes that a unix socket's path may have"},
		{"socket keeps its owner out", `socket: { path: /run/s, mode: "0060" }`, `socket.mode: "0060" keeps the owner out`},
		{"plugin dirs", "plugins: { dirs: [/a, b] }", `plugins.dirs[1]: "b" is not an absolute path`},
		{"no plugin dirs", "plugins: { dirs: [] }", ""},
		{"idle timeout too short", "plugins: { idle_timeout: 1ms }", `plugins.idle_timeout: "1ms" is shorter than 1s`},
		{"some processes", "plugins: { max_processes: 3 }", ""},
		{"processes as text", `plugins: { max_processes: "3" }`, ""},
		{"no processes", "plugins: { max_processes: 0 }", `plugins.max_processes: "0" is not a whole number from 1 to 1000`},
		{"too many processes", "plugins: { max_processes: 1001 }", `plugins.max_processes: "1001" is not a whole number from 1 to 1000`},
		{"fewer than no processes", "plugins: { max_processes: -1 }", `plugins.max_processes: found a number, want a whole number`},
		{"half a process", "plugins: { max_processes: 1.5 }", `plugins.max_processes: found a number, want a whole number`},
		{"a word of processes", "plugins: { max_processes: many }", `plugins.max_processes: "many" is not a whole number from 1 to 1000`},
		{"empty processes", `plugins: { max_processes: "" }`, `plugins.max_processes: "" is not a whole number from 1 to 1000`},
		{"processes from nowhere", "plugins: { max_processes: null }", `plugins.max_processes: found nothing, want a whole number`},
		{"odd provider name", "plugins: { sha256: { Vault: " + strings.Repeat("a", 64) + " } }", "plugins.sha256.Vault: a provider's name has lower-case letters, digits, - and _ only"},
		{"duplicate key", "log: {}\nlog: {}", `duplicate key "log", first given in line 1`},
		{"unknown key", "lgo: {}", `unknown key "lgo"`},
		{"merge key", "<<: {}", "merge keys are not supported"},
		{"tag", "listen: !!str x", `listen: tags such as "!!str" are not supported`},
		{"anchor", "listen: &a x", "listen: anchors and aliases are not supported"},
		{"list as a key", "? [a]\n: b", "a key is a list, want a string"},
		{"empty key", "~: b", "a key is empty"},
	}, func(line string) string { return line + "\n" + minimal + minimalTail })
}

func TestIdentityRules(t *testing.T) {
	check(t, []rule{
		{"complete", "listen: localhost:1, header_file: /h, token_for: { r: graph }", ""},
		{"IPv6", `listen: "[::1]:1", header_file: /h, token_for: { r: graph }`, ""},
		{"not loopback", "listen: 10.0.0.1:1, header_file: /h, token_for: { r: graph }", `identity_endpoint.listen: "10.0.0.1:1" is not a loopback address`},
		{"every address", "listen: ':1', header_file: /h, token_for: { r: graph }", `identity_endpoint.listen: ":1" is not a loopback address`},
		{"the address of listen", "listen: 127.0.0.1:9465, header_file: /h, token_for: { r: graph }", "identity_endpoint.listen: the same address as listen in line 1"},
		{"a scope", "listen: localhost:1, header_file: /h, token_for: { r/.default: graph }", `identity_endpoint.token_for["r/.default"]: "r/.default" is a scope, not a resource`},
		{"unknown token", "listen: localhost:1, header_file: /h, token_for: { r: graf }", `identity_endpoint.token_for.r: unknown token "graf"`},
		{"nothing", "", "identity_endpoint: missing key \"header_file\"\nidentity_endpoint: missing key \"listen\"\nidentity_endpoint: missing key \"token_for\""},
	}, func(line string) string { return "identity_endpoint: { " + line + " }\n" + minimal + minimalTail })
}

func TestSidecarRules(t *testing.T) {
	check(t, []rule{
		{"complete", "listen: localhost:1, token_for: { Graph: graph, Other: graph }", ""},
		{"a port the system chooses", "listen: 127.0.0.1:0, token_for: { Graph: graph }", ""},
		{"not loopback", "listen: 10.0.0.1:1, token_for: { Graph: graph }", `auth_sidecar.listen: "10.0.0.1:1" is not a loopback address`},
		{"a port alone", `listen: "9467", token_for: { Graph: graph }`, `auth_sidecar.listen: "9467" is not host:port`},
		{"the address of listen", "listen: 127.0.0.1:9465, token_for: { Graph: graph }", "auth_sidecar.listen: the same address as listen in line 1"},
		{"the address of the identity endpoint", "listen: 127.0.0.1:9, token_for: { Graph: graph } }\nidentity_endpoint: { listen: 127.0.0.1:9, header_file: /h, token_for: { r: graph }",
			"auth_sidecar.listen: the same address as identity_endpoint.listen in line 2"},
		{"unknown token", "listen: localhost:1, token_for: { Graph: graf }", `auth_sidecar.token_for.Graph: unknown token "graf"`},
		{"nothing", "", "auth_sidecar: missing key \"listen\"\nauth_sidecar: missing key \"token_for\""},
	}, func(line string) string { return "auth_sidecar: { " + line + " }\n" + minimal + minimalTail })
}

func TestClientRules(t *testing.T) {
	check(t, []rule{
		{"everything", "ca_file: /ca, proxy: socks5://p:1, request_timeout: 2m", ""},
		{"empty means omitted", `ca_file: "${EMPTY}", proxy: "${EMPTY}", request_timeout: "${EMPTY}", issuer: "${EMPTY}"`, ""},
		{"two origins", "issuer: https://x.example", "clients.app: want exactly one of entra, issuer and token_url, found 2"},
		{"proxy with a password", "proxy: http://u:hunter2@p", "clients.app.proxy: a user or password in this file"},
		{"proxy from the environment", `proxy: "${PROXY}"`, ""},
		{"proxy with a # in its password", `proxy: "${HASH}"`, ""},
		{"proxy with a / in its password", `proxy: "${SLASH}"`, ""},
		{"proxy with a ? in its password", `proxy: "${QUERY}"`, ""},
		{"proxy with a @ in its password", `proxy: "${AT}"`, ""},
		{"proxy with a password in part from the environment", `proxy: "http://u:${VALUE}#@p:1/"`, ""},
		{"proxy with a # and a path", `proxy: "${HASH}/x"`, "clients.app.proxy: a proxy's URL ends after its host and port"},
		{"proxy with a query", "proxy: 'http://p?x'", "clients.app.proxy: a proxy's URL ends after its host and port"},
		{"proxy with a fragment", "proxy: 'http://p#'", "clients.app.proxy: a proxy's URL ends after its host and port"},
		{"proxy with a literal # in its password", "proxy: 'http://u:hunter2#@p'", "clients.app.proxy: a user or password in this file"},
		{"proxy with a lone % in its password", `proxy: "${PERCENT}"`, "clients.app.proxy: not a proxy's URL: a % in its user or password begins no escape; write the sign itself as %25"},
		{"proxy without a port's number", "proxy: 'http://p:'", "clients.app.proxy: not a proxy's URL: it holds no HOST:PORT; it is written http://USER:PASSWORD@HOST:PORT"},
		{"proxy with a port out of range", "proxy: 'http://p:65536'", "clients.app.proxy: not a proxy's URL: its port is not one of 1 to 65535"},
		{"proxy with a path", "proxy: http://p/x", "clients.app.proxy: a proxy's URL ends after its host and port"},
		{"proxy of another kind", "proxy: ftp://p", "clients.app.proxy: a proxy's URL starts with http://, https://, socks5:// or socks5h://"},
		{"proxy that resolves names", "proxy: socks5h://p:1", ""},
		{"proxy with a blank at its end", `proxy: "http://p:1 "`, "clients.app.proxy: a blank in a URL"},
		{"proxy with a byte order mark", `proxy: "\uFEFFhttp://p:1"`, "clients.app.proxy: U+FEFF, which nobody sees, in a URL"},
		{"no proxy", "proxy: p:3128", "clients.app.proxy: not a proxy's URL"},
		{"timeout of a bare number", "request_timeout: 10", "clients.app.request_timeout: 10 is a bare number, want a duration"},
		{"timeout of a word", "request_timeout: soon", `clients.app.request_timeout: "soon" is not a duration`},
		{"timeout too short", "request_timeout: 999ms", `clients.app.request_timeout: "999ms" is shorter than 1s`},
		{"timeout too long", "request_timeout: 121s", `clients.app.request_timeout: "121s" is longer than 2m`},
		{"duration in the environment", "request_timeout: '${VALUE}'", `clients.app.request_timeout: "${VALUE}" is not a duration`},
		{"undefined variable", "ca_file: '${NOPE}/ca'", `clients.app.ca_file: environment variable "NOPE" is not set`},
		{"unclosed variable", "ca_file: '${NOPE/ca'", `clients.app.ca_file: "${" is not closed by "}"; write $$ for a dollar sign`},
		{"a secret", "client_secret: hunter2", `clients.app: unknown key "client_secret"`},
		{"a number as text", "ca_file: 5", "clients.app.ca_file: found a number, want a string"},
		{"no value", "ca_file: ", "clients.app.ca_file: found nothing, want a string"},
		{"a line break", `ca_file: "/a\nb"`, "clients.app.ca_file: a line break or another control character in the value"},
	}, func(line string) string {
		comma := ""
		if line != "" {
			comma = ",\n   "
		}
		return "clients:\n  app: {\n    token_url: https://x.example" + comma + line +
			", client_id: i, credential: { provider: jwtcred } }\n" + minimalTail
	})
}

func TestOriginRules(t *testing.T) {
	check(t, []rule{
		{"https", "token_url: 'https://x.example:8443/a?b=c'", ""},
		{"loopback http", "token_url: http://127.3.2.1:80/t", ""},
		{"localhost http", "issuer: http://localhost:8080", ""},
		{"IPv6 loopback http", "issuer: 'http://[::1]:8080'", ""},
		{"http allowed", "token_url: http://x.example, allow_insecure_http: true", ""},
		{"http", "token_url: http://x.example/t", "clients.app.token_url: a plain http URL: credentials would be sent in the clear"},
		{"no scheme", "token_url: x.example/t", "clients.app.token_url: not an absolute URL"},
		{"no host", "token_url: https:///t", "clients.app.token_url: not an absolute URL"},
		{"another scheme", "token_url: ftp://x.example", "clients.app.token_url: a URL that is not https"},
		{"bad port", "token_url: https://x.example:99999", "clients.app.token_url: not an absolute URL"},
		{"password", "token_url: https://u:hunter2@x.example", "clients.app.token_url: a user or password in a URL"},
		{"fragment", "token_url: 'https://x.example/#'", "clients.app.token_url: a URL with a fragment"},
		{"issuer with a query", "issuer: 'https://x.example?'", "clients.app.issuer: an issuer has no query"},
		{"none", "", "clients.app: want exactly one of entra, issuer and token_url, found 0"},
		{"misspelt", "isuer: https://x.example", `clients.app: unknown key "isuer"`},
		{"mistyped", "entra: contoso", "clients.app.entra: found a string, want a mapping\ntokens.graph.scopes: Entra ID wants exactly one scope, found 0"},
	}, func(line string) string {
		if line != "" {
			line += ", "
		}
		return "clients:\n  app: { " + line + "client_id: i, credential: { provider: jwtcred } }\n" + minimalTail
	})
}

func TestEntraRules(t *testing.T) {
	const noTenant = "is not a tenant's id or domain name"
	check(t, []rule{
		{"domain", "tenant: contoso.onmicrosoft.com", ""},
		{"id", "tenant: 6731de76-14a6-49ae-97bc-6eba6914391e", ""},
		{"china", "tenant: t, cloud: china", ""},
		{"authority", "tenant: t, authority: https://login.example.com/", ""},
		{"both", "tenant: t, cloud: china, authority: https://login.example.com", "clients.app.entra: want at most one of cloud and authority"},
		{"unknown cloud", "tenant: t, cloud: usgvo", `clients.app.entra.cloud: unknown value "usgvo", want one of bleu, china, delos, france, germany, govsg, public, singapore, usgov`},
		{"common", "tenant: Common", `clients.app.entra.tenant: "Common" is not a tenant: client credentials belong to one`},
		{"path in the tenant", "tenant: a/b", `clients.app.entra.tenant: "a/b" ` + noTenant},
		{"empty tenant", "tenant: ''", "clients.app.entra.tenant: empty"},
		{"no tenant", "cloud: public", `clients.app.entra: missing key "tenant"`},
		{"authority with a path", "tenant: t, authority: https://login.example.com/t", "clients.app.entra.authority: an authority ends after its host"},
		{"authority over http", "tenant: t, authority: http://login.example.com", "clients.app.entra.authority: a plain http URL: credentials would be sent in the clear"},
	}, func(line string) string {
		return "clients:\n  app: { entra: { " + line + " }, client_id: i, credential: { provider: jwtcred } }\n" +
			minimalTail + "    scopes: [x/.default]\n"
	})
}

func TestCredentialRules(t *testing.T) {
	check(t, []rule{
		{"no config", "provider: jwtcred", ""},
		{"null config", "provider: jwtcred, config: ", ""},
		{"any values", "provider: x_1-y, config: { a: [1, 2.5, true, null, { b: '$${x}' }], c: 2001-01-01 }", ""},
		{"upper case", "provider: JWT", "clients.app.credential.provider: a provider's name has lower-case letters, digits, - and _ only"},
		{"none", "config: {}", `clients.app.credential: missing key "provider"`},
		{"config as a list", "provider: x, config: []", "clients.app.credential.config: found a list, want a mapping"},
		{"a secret", "provider: x, config: { password: hunter2 }", `clients.app.credential.config: a secret in key "password"`},
		{"a secret deep down", "provider: x, config: { a: [{ Client-Secret: hunter2 }] }", `clients.app.credential.config.a[0]: a secret in key "Client-Secret"`},
		{"a secret beside", "provider: x, private_key: hunter2", `clients.app.credential: unknown key "private_key"`},
		{"no number", "provider: x, config: { a: .nan }", `clients.app.credential.config.a: ".nan" is not a number that JSON has`},
		{"duplicate", "provider: x, config: { a: 1, a: 2 }", `clients.app.credential.config: duplicate key "a", first given in line 3`},
		{"alias", "provider: &p x, config: { a: *p }", "clients.app.credential.provider: anchors and aliases are not supported\nclients.app.credential.config.a: anchors and aliases are not supported"},
		{"too deep", "provider: x, config: { a: " + strings.Repeat("[", 33) + strings.Repeat("]", 33) + " }", "clients.app.credential.config.a" + strings.Repeat("[0]", 32) + ": nested more than 32 deep"},
	}, func(line string) string {
		return "clients:\n  app: { token_url: https://x.example, client_id: i,\n    credential: { " + line + " } }\n" + minimalTail
	})
}

func TestGrantRules(t *testing.T) {
	const own = "credagent sets the claim %s itself"
	rules := []rule{
		{"default", "scopes: [a]", ""},
		{"written out", "grant: client_credentials", ""},
		{"jwt_bearer", "grant: jwt_bearer, subject: u, assertion_claims: { box_sub_type: enterprise, list: [1, { a: true }] }, scopes: [a]", ""},
		{"jwt_bearer without a subject", "grant: jwt_bearer", ""}, // its provider knows whether one is needed
		{"unknown", "grant: password", `tokens.graph.grant: unknown value "password", want one of client_credentials, jwt_bearer, token_exchange`},
		{"by its URN", "grant: 'urn:ietf:params:oauth:grant-type:jwt-bearer'", `tokens.graph.grant: unknown value "urn:ietf:params:oauth:grant-type:jwt-bearer", want one of client_credentials, jwt_bearer, token_exchange`},
		{"subject of another grant", "subject: u", "tokens.graph.subject: only a token of grant jwt_bearer has this key"},
		{"claims of another grant", "grant: client_credentials, assertion_claims: { a: b }", "tokens.graph.assertion_claims: only a token of grant jwt_bearer has this key"},
		{"claims as text", "grant: jwt_bearer, assertion_claims: '{}'", "tokens.graph.assertion_claims: found a string, want a mapping"},
		{"a secret claim", "grant: jwt_bearer, assertion_claims: { password: hunter2 }", `tokens.graph.assertion_claims: a secret in key "password"`},
		{"assertion as a parameter", "grant: jwt_bearer, params: { assertion: x }", "tokens.graph.params.assertion: credagent sets the parameter assertion itself"},
		{"no client authentication", "client: public", "tokens.graph.grant: the client's auth_method is none, with which a server gives no token for client_credentials"},
		{"no client authentication needed", "client: public, grant: jwt_bearer", ""},
		{"token_exchange", "grant: token_exchange, subject_token_type: id_token, requested_token_type: 'urn:x:y'", ""},
		{"token_exchange, all by default", "grant: token_exchange", ""},
		{"unknown token type", "grant: token_exchange, subject_token_type: jtw", `tokens.graph.subject_token_type: "jtw" is neither one of access_token, id_token, jwt, refresh_token, saml1, saml2 nor a URI`},
		{"token type of another grant", "grant: jwt_bearer, subject: u, requested_token_type: jwt", "tokens.graph.requested_token_type: only a token of grant token_exchange has this key"},
		{"subject of an exchange", "grant: token_exchange, subject: u", "tokens.graph.subject: only a token of grant jwt_bearer has this key"},
		{"subject token as a parameter", "grant: token_exchange, params: { subject_token: x }", "tokens.graph.params.subject_token: credagent sets the parameter subject_token itself"},
		{"Entra ID", "client: entra, grant: jwt_bearer, scopes: [a/.default]", "tokens.graph.grant: Entra ID gives a client tokens by client_credentials alone"},
	}
	for _, claim := range []string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti"} {
		rules = append(rules, rule{claim, "grant: jwt_bearer, assertion_claims: { " + claim + ": x }", "tokens.graph.assertion_claims." + claim + ": " + strings.Replace(own, "%s", claim, 1)})
	}
	check(t, rules, func(line string) string {
		if !strings.Contains(line, "client:") {
			line = "client: app, " + line
		}
		return minimal + `  public: { token_url: "https://x.example", client_id: i, credential: { provider: certcred, config: { auth_method: none } } }
  entra: { entra: { tenant: t.example }, client_id: i, credential: { provider: certcred } }
tokens: { graph: { ` + line + " } }\n"
	})
}

func TestTokenRules(t *testing.T) {
	check(t, []rule{
		{"everything", "scopes: [a, b], audience: x, resources: ['urn:x', 'https://y'], params: { x: y }, claims: '{}', cae: true, refresh_at: 10%, default_lifetime: 2h, allow: [{ user: 10 }]", ""},
		{"empty", `scopes: [], audience: "", resources: [], params: {}, claims: '', cae: false`, ""},
		{"scope with a space", "scopes: [a b]", `tokens.graph.scopes[0]: "a b" is not a scope`},
		{"scope with a quote", `scopes: ['"']`, `tokens.graph.scopes[0]: "\"" is not a scope`},
		{"empty scope", "scopes: ['']", `tokens.graph.scopes[0]: "" is not a scope`},
		{"scope twice", "scopes: [a, a]", `tokens.graph.scopes[1]: "a" is there twice`},
		{"scopes as text", "scopes: a", "tokens.graph.scopes: found a string, want a list"},
		{"relative resource", "resources: [a]", `tokens.graph.resources[0]: "a" is not an absolute URI`},
		{"resource with a fragment", "resources: ['https://a#b']", `tokens.graph.resources[0]: "https://a#b" has a fragment`},
		{"reserved parameter", "params: { resource: x }", "tokens.graph.params.resource: credagent sets the parameter resource itself"},
		{"secret parameter", "params: { password: hunter2 }", "tokens.graph.params.password: a secret in parameter password"},
		{"parameter without a name", "params: { '': x }", `tokens.graph.params[""]: a parameter without a name`},
		{"claims not an object", "claims: 'null'", "tokens.graph.claims: not a JSON object"},
		{"claims as a mapping", "claims: {}", "tokens.graph.claims: found a mapping, want a string"},
		{"refresh too early", "refresh_at: 9.9%", `tokens.graph.refresh_at: "9.9%" is outside 10% to 95%`},
		{"a life too short", "default_lifetime: 9s", `tokens.graph.default_lifetime: "9s" is shorter than 10s`},
		{"a life too long", "default_lifetime: 8761h", `tokens.graph.default_lifetime: "8761h" is longer than 8760h`},
		{"a life without unit", "default_lifetime: 300", "tokens.graph.default_lifetime: 300 is a bare number, want a duration"},
		{"refresh too late", "refresh_at: 96%", `tokens.graph.refresh_at: "96%" is outside 10% to 95%`},
		{"refresh without percent", "refresh_at: 50", "tokens.graph.refresh_at: 50 is a bare number, want a percentage"},
		{"refresh of a word", "refresh_at: half", `tokens.graph.refresh_at: "half" is not a percentage`},
		{"allow both", "allow: [{ user: a, group: b }]", "tokens.graph.allow[0]: want exactly one of user and group"},
		{"allow nobody", "allow: [{}]", "tokens.graph.allow[0]: want exactly one of user and group"},
		{"allow nameless", "allow: [{ user: '' }]", "tokens.graph.allow[0]: an empty name"},
		{"allow an odd name", "allow: [{ user: 'a b' }]", `tokens.graph.allow[0].user: "a b" is not the name or number of a user or group`},
		{"allow a large number", "allow: [{ user: 4294967295 }]", `tokens.graph.allow[0].user: "4294967295" is too large for the number of a user or group`},
	}, func(line string) string {
		if line != "" {
			line = ", " + line
		}
		return minimal + "\ntokens:\n  graph: { client: app" + strings.Replace(line, ", ", ",", 1) + " }\n"
	})
}

func TestSinkRules(t *testing.T) {
	check(t, []rule{
		{"raw by default", "type: file, token: graph", ""},
		{"everything", "type: file, token: graph, format: json, mode: '644', owner: 0, group: web, readers: [{ group: 7 }]", ""},
		{"template", `type: file, format: template, template: '{{ (token "graph").AccessToken }}'`, ""},
		{"env", "type: env, variables: { A: graph, B: graph.scope, C: a.b }", ""},
		{"no type", "token: graph", `sinks[0]: missing key "type"`},
		{"unknown type", "type: flie", `sinks[0].type: unknown value "flie", want one of env, file, kubernetes_secret`},
		{"unknown format", "type: file, token: graph, format: xml", `sinks[0].format: unknown value "xml", want one of envoy_sds, exec_credential, header, json, raw, template`},
		{"no token", "type: file", `sinks[0]: missing key "token"`},
		{"unknown token", "type: file, token: grahp", `sinks[0].token: unknown token "grahp"`},
		{"token from the environment", "type: file, token: '${VALUE}'", `sinks[0].token: unknown token "${VALUE}"`},
		{"template without one", "type: file, format: template", `sinks[0]: missing key "template"`},
		{"template of another token", `type: file, format: template, template: '{{ (token "x").Scope }}'`, `sinks[0].template: unknown token "x"`},
		{"template without a token", `type: file, format: template, template: hello`, "sinks[0].template: a template that uses no token"},
		{"template from the environment", `type: file, format: template, template: '{{ ${VALUE} }}'`, "sinks[0].template: not a valid template"},
		{"template's token from the environment", `type: file, format: template, template: '{{ (token "${VALUE}").Scope }}'`, `sinks[0].template: unknown token "${…}"`},
		{"token with a template", `type: file, token: graph, format: template, template: '{{ (token "graph").Scope }}'`, "sinks[0].token: token does not belong to a template"},
		{"template with raw", "type: file, token: graph, template: x", "sinks[0].template: template does not belong to format raw"},
		{"variables with a file", "type: file, token: graph, variables: { A: graph }", "sinks[0].variables: variables does not belong to a file sink"},
		{"token with env", "type: env, token: graph, variables: { A: graph }", "sinks[0].token: token does not belong to an env sink"},
		{"env without variables", "type: env", `sinks[0]: missing key "variables"`},
		{"odd variable", "type: env, variables: { A-B: graph }", `sinks[0].variables.A-B: "A-B" is not the name of an environment variable`},
		{"variable of the shell", "type: env, variables: { UID: graph }", `sinks[0].variables.UID: variable "UID": shells keep this name for themselves; choose another`},
		{"unknown field", "type: env, variables: { A: graph.expires }", `sinks[0].variables.A: "graph.expires" asks for a field that a token does not have`},
		{"empty field", "type: env, variables: { A: graph. }", `sinks[0].variables.A: unknown token "graph."`},
		{"unknown token in a variable", "type: env, variables: { A: grph.scope }", `sinks[0].variables.A: unknown token "grph.scope"`},
		{"bare mode", "type: file, token: graph, mode: 0640", "sinks[0].mode: 0640 is a bare number, want a file mode in quotes"},
		{"executable", "type: file, token: graph, mode: '0755'", `sinks[0].mode: "0755" makes the file executable`},
		{"setuid", "type: file, token: graph, mode: '4600'", `sinks[0].mode: "4600" has the setuid, setgid or sticky bit`},
		{"writable by all", "type: file, token: graph, mode: '0602'", `sinks[0].mode: "0602" lets everybody write`},
		{"writable by the group", "type: file, token: graph, mode: '0620'", `sinks[0].mode: "0620" lets the group write`},
		{"unreadable", "type: file, token: graph, mode: '0040'", `sinks[0].mode: "0040" keeps the owner out`},
		{"symbolic mode", "type: file, token: graph, mode: u=rw", `sinks[0].mode: "u=rw" is not a file mode`},
		{"bad owner", "type: file, token: graph, owner: 'a:b'", `sinks[0].owner: "a:b" is not the name or number of a user or group`},
	}, func(line string) string {
		return minimal + minimalTail + "  a.b: { client: app }\n\nsinks:\n- { path: /x, " + line + " }\n"
	})
}

func TestActionRules(t *testing.T) {
	check(t, []rule{
		{"signal", "signal: { pid_file: /p, signal: sigusr1 }", ""},
		{"command", "command: { run: [true_, ''], timeout: 10m }", ""},
		{"both", "signal: { pid_file: /p, signal: HUP }, command: { run: [a] }", "sinks[0].on_change[0]: want exactly one of signal and command"},
		{"neither", "", "sinks[0].on_change[0]: want exactly one of signal and command"},
		{"unknown signal", "signal: { pid_file: /p, signal: HOP }", `sinks[0].on_change[0].signal.signal: unknown signal "HOP", want one of ALRM, CONT, HUP, INT, KILL, QUIT, TERM, USR1, USR2, WINCH`},
		{"relative pid file", "signal: { pid_file: p, signal: HUP }", `sinks[0].on_change[0].signal.pid_file: "p" is not an absolute path`},
		{"command of nothing", "command: { run: [] }", `sinks[0].on_change[0].command: missing key "run"`},
		{"command without a name", "command: { run: [''] }", "sinks[0].on_change[0].command.run[0]: empty, want a program"},
		{"command elsewhere", "command: { run: [/usr/bin/a] }", ""},
		{"relative command", "command: { run: [bin/a] }", `sinks[0].on_change[0].command.run[0]: "bin/a" is neither a program's name nor an absolute path`},
		{"command too long", "command: { run: [a], timeout: 1h }", `sinks[0].on_change[0].command.timeout: "1h" is longer than 10m`},
	}, func(line string) string {
		return minimal + minimalTail + "sinks: [{ type: file, path: /x, token: graph, on_change: [\n" +
			"\x20              { " + line + " }]}]\n"
	})
}

func TestPathRules(t *testing.T) {
	check(t, []rule{
		{"two files", "/a\n/b", ""},
		{"one file twice", "/a\n/x/..//a", "sinks[1].path: the same file as sinks[0].path in line 10"},
		{"the socket", "/run/s\n/b", "sinks[0].path: the same file as socket.path in line 9"},
		{"relative", "a\n/b", `sinks[0].path: "a" is not an absolute path`},
		{"directory", "/a/\n/b", `sinks[0].path: "/a/" is a directory, want a file`},
		{"root", "/\n/b", `sinks[0].path: "/" is a directory, want a file`},
		{"temporary", "/a/.credagent-1\n/b", "sinks[0].path: names that start with .credagent- are credagent's own temporary files"},
	}, func(line string) string {
		first, second, _ := strings.Cut(line, "\n")
		return minimal + minimalTail + "socket: { path: /run/s }\nsinks: [ { path: " + first + ", type: file, token: graph},\n  {path:  " +
			second + ", type: file, token: graph } ]\n"
	})
}

func TestReferencesAndNames(t *testing.T) {
	entra := strings.Replace(minimal, "token_url: https://login.example.com/token", "entra: { tenant: t }", 1)
	for _, c := range []struct{ name, doc, want string }{
		{"unknown client", minimal + strings.Replace(minimalTail, "app", "apq", 1), `tokens.graph.client: unknown client "apq"`},
		{"no client", minimal + "tokens:\n  graph: {}\n", `tokens.graph: missing key "client"`},
		{"null token", minimal + "tokens:\n  graph:\n", `tokens.graph: missing key "client"`},
		{"no tokens", minimal, `missing key "tokens"`},
		{"no clients", minimalTail, `missing key "clients"`},
		{"clients of another type", "clients: []\n" + minimalTail, "clients: found a list, want a mapping"},
		{"odd client name", strings.Replace(minimal, "app:", "a b:", 1) + minimalTail, "clients[\"a b\"]: \"a b\" is not a name\ntokens.graph.client: unknown client \"app\""},
		{"odd token name", minimal + strings.Replace(minimalTail, "graph", ".graph", 1), `tokens[".graph"]: ".graph" is not a name`},
		{"number as a name", minimal + strings.Replace(minimalTail, "graph", "42", 1), ""},
		{"long name", minimal + strings.Replace(minimalTail, "graph", strings.Repeat("x", 64), 1), "tokens." + strings.Repeat("x", 64) + `: "` + strings.Repeat("x", 64) + `" is not a name`},
		{"Entra without a scope", entra + minimalTail, "tokens.graph.scopes: Entra ID wants exactly one scope, found 0"},
		{"Entra with another scope", entra + minimalTail + "    scopes: [Mail.Read]\n", `tokens.graph.scopes[0]: "Mail.Read" does not end in /.default, as Entra ID wants it`},
		{"Entra with two", entra + minimalTail + "    scopes: [a/.default, b/.default]\n", "tokens.graph.scopes: Entra ID wants exactly one scope, found 2"},
		{"bad client_id", strings.Replace(minimal, "app-1", "ä", 1) + minimalTail, `clients.app.client_id: "ä" has characters that a client_id cannot have`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("c", []byte(c.doc), nil)
			hasProblem(t, err, c.want)
		})
	}
}

func TestDefaults(t *testing.T) {
	c, err := Parse("c", []byte(minimal+minimalTail), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:9465" || c.Log.JSON || c.Log.Level != 0 {
		t.Errorf("listen %q, log %+v", c.Listen, c.Log)
	}
	if want := (Plugins{Dirs: []string{"/usr/lib/credagent/plugins"}, IdleTimeout: time.Minute, MaxProcesses: 16}); !reflect.DeepEqual(c.Plugins, want) {
		t.Errorf("plugins %+v, want %+v", c.Plugins, want)
	}
	if got := c.Clients[0].RequestTimeout; got != 10*time.Second {
		t.Errorf("request_timeout %v", got)
	}
	if got := c.Tokens[0].RefreshAt; got != 0.5 {
		t.Errorf("refresh_at %v", got)
	}
}

func TestHints(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"misspelt key", minimal + minimalTail + "    scope: [a]\n", `did you mean "scopes"?`},
		{"misspelt client", minimal + strings.Replace(minimalTail, "app", "appp", 1), `did you mean "app"?`},
		{"literal secret", strings.Replace(minimal, "client_id:", "client_secret: x\n    client_id:", 1) + minimalTail, secretHint},
		{"number for text", strings.Replace(minimal, "app-1", "0815", 1) + minimalTail, `put it in quotes: "0815"`},
		{"a port for an address", "listen: 9465\n" + minimal + minimalTail, `an address such as 127.0.0.1:9465, in quotes: "127.0.0.1:9465"`},
		{"another port", "listen: 8080\n" + minimal + minimalTail, `an address such as 127.0.0.1:8080, in quotes: "127.0.0.1:8080"`},
		{"a quoted port", "listen: '9470'\n" + minimal + minimalTail, "an address such as 127.0.0.1:9470"},
		{"a host for an address", "listen: '::1'\n" + minimal + minimalTail, "an address such as [::1]:9465"},
		{"a mode that cannot be", minimal + minimalTail + "sinks: [{ type: file, token: graph, path: /x, mode: 0777 }]\n", `octal digits in quotes, such as "0640"`},
		{"a decimal mode", minimal + minimalTail + "sinks: [{ type: file, token: graph, path: /x, mode: 420 }]\n", `octal digits in quotes, such as "0640"`},
		{"a quoted mode that cannot be", minimal + minimalTail + "sinks: [{ type: file, token: graph, path: /x, mode: '0777' }]\n", `octal digits in quotes, such as "0640"`},
		{"a good mode", minimal + minimalTail + "sinks: [{ type: file, token: graph, path: /x, mode: 0644 }]\n", `put it in quotes: "0644"`},
		{"a socket's mode", "socket: { path: /s, mode: 0777 }\n" + minimal + minimalTail, `octal digits in quotes, such as "0660"`},
		{"a path for a socket", "socket: /run/credagent.sock\n" + minimal + minimalTail, "write the keys out: socket: { path: /run/credagent.sock }"},
		{"a directory for a state", "state: /var/lib/credagent\n" + minimal + minimalTail, "write the keys out: state: { dir: /var/lib/credagent, key_file: /etc/credagent/state.key }"},
		{"a level for a log", "log: debug\n" + minimal + minimalTail, "write the keys out: log: { level: debug }"},
		{"a tenant for entra", "clients: { a: { client_id: x, entra: contoso.com, credential: { provider: secretcred } } }\n" + strings.Replace(minimalTail, "app", "a", 1) + "    scopes: [api://x/.default]\n", "write the keys out: entra: { tenant: contoso.com }"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("c", []byte(c.doc), nil)
			if err == nil || !strings.HasSuffix(err.Error(), "\n    hint: "+c.want) {
				t.Errorf("error\n%v\nlacks the hint %s", err, c.want)
			}
		})
	}
}

// A suggestion comes from the value it corrects, and so would give one of the environment away.
func TestNoHintFromTheEnvironment(t *testing.T) {
	for _, c := range []struct{ name, value, doc string }{
		{"word", "inf", "log: { level: '${VALUE}' }\n" + minimal + minimalTail},
		{"client", "appp", minimal + strings.Replace(minimalTail, "app", "${VALUE}", 1)},
		{"token", "grahp", minimal + minimalTail + "sinks: [{ type: file, path: /x, token: '${VALUE}' }]\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, source := range []struct{ value, hint string }{{"${VALUE}", ""}, {c.value, "did you mean"}} {
				doc := strings.Replace(c.doc, "${VALUE}", source.value, 1)
				_, err := Parse("c", []byte(doc), lookup(map[string]string{"VALUE": c.value}))
				if err == nil || strings.Contains(err.Error(), "hint:") != (source.hint != "") {
					t.Errorf("with %s: %v", source.value, err)
				}
			}
		})
	}
}

func TestExpanded(t *testing.T) {
	const document = `clients:
  my.client.app:
    entra: { tenant: "${TENANT}" }
    client_id: "${ID}"
    proxy: "http://${USER}:${PASSWORD}@proxy:3128"
    credential: { provider: jwtcred, config: { assertion_file: "/run/${FILE}" } }
tokens:
  graph:
    client: my.client.app
    scopes: ["${SCOPE}/.default"]
    params: { a.b: "x-${PARAM}" }
    claims: '{"id_token":{"x":"${CLAIM}"}}'
`
	c, err := Parse("c", []byte(document), lookup(map[string]string{
		"TENANT": "tenant", "ID": "id", "USER": "user", "PASSWORD": "pass%23word", "FILE": "file", "SCOPE": "api://x", "PARAM": "param", "CLAIM": "claim",
	}))
	if err != nil {
		t.Fatal(err)
	}
	got := c.Expanded()
	slices.Sort(got)
	if want := []string{"claim", "file", "param", "pass#word", "pass%23word", "user"}; !slices.Equal(got, want) {
		t.Errorf("Expanded() = %q, want %q", got, want)
	}
	if plain, err := Parse("c", []byte(minimal+minimalTail), lookup(nil)); err != nil || len(plain.Expanded()) != 0 {
		t.Errorf("without variables: %v, %v", plain, err)
	}
}
