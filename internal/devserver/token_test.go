package devserver_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

func TestClientSecret(t *testing.T) {
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient(), {ID: "keyless"}, {ID: "a:b c", Secret: secret.New("x")}}})
	bare, empty := form("client_id", "", "client_secret", ""), form()
	empty["client_secret"] = []string{""}
	basic := func(id, key string) string { return url.QueryEscape(id) + ":" + url.QueryEscape(key) }
	tests := []struct {
		name    string
		form    url.Values
		basic   string // user:password
		status  int
		outcome string
		method  string
	}{
		{"post", form(), "", 200, "issued", "client_secret_post"},
		{"post, wrong secret", form("client_secret", "wrong"), "", 401, "invalid_client", "client_secret_post"},
		{"post, unknown client", form("client_id", "nobody"), "", 401, "invalid_client", "client_secret_post"},
		{"post, no client_id", form("client_id", ""), "", 400, "invalid_request", "client_secret_post"},
		{"post, client without a secret", form("client_id", "keyless"), "", 401, "invalid_client", "client_secret_post"},
		{"basic", bare, basic(appID, appSecret), 200, "issued", "client_secret_basic"},
		{"basic, id that needs encoding", bare, basic("a:b c", "x"), 200, "issued", "client_secret_basic"},
		{"basic, not form-urlencoded", bare, appID + ":" + appSecret, 401, "invalid_client", "client_secret_basic"},
		{"basic, wrong secret", bare, basic(appID, "wrong"), 401, "invalid_client", "client_secret_basic"},
		{"basic and the same client_id", form("client_secret", ""), basic(appID, appSecret), 200, "issued", "client_secret_basic"},
		{"basic and an empty client_secret", empty, basic(appID, appSecret), 200, "issued", "client_secret_basic"},
		{"basic, client without a secret", bare, basic("keyless", ""), 401, "invalid_client", "client_secret_basic"},
		{"basic and another client_id", form("client_id", "keyless", "client_secret", ""), basic(appID, appSecret), 400, "invalid_request", "client_secret_basic"},
		{"basic and post", form(), basic(appID, appSecret), 400, "invalid_request", "client_secret_basic+client_secret_post"},
		{"none", form("client_secret", ""), "", 401, "invalid_client", "none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request := newRequest(t, server.TokenURL(), tt.form)
			if user, password, ok := strings.Cut(tt.basic, ":"); ok {
				request.SetBasicAuth(user, password)
			}
			got := mustDo(t, http.DefaultClient, request)
			if got.status != tt.status || (tt.outcome != "issued" && got.text("error") != tt.outcome) {
				t.Errorf("answer = %d %s, want %d %s", got.status, got.body, tt.status, tt.outcome)
			}
			if challenged := got.header.Get("WWW-Authenticate") != ""; challenged != (tt.status == 401) {
				t.Errorf("WWW-Authenticate = %q with status %d", got.header.Get("WWW-Authenticate"), tt.status)
			}
			if entry := lastRequest(t, server); entry.Outcome != tt.outcome || entry.AuthMethod != tt.method || entry.Status != tt.status {
				t.Errorf("log = %+v, want %s by %s", entry, tt.outcome, tt.method)
			}
		})
	}
}

func TestRequestThatIsNone(t *testing.T) {
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}})
	twice := form()
	twice.Add("scope", "write")
	tests := []struct {
		name   string
		change func(*http.Request)
		form   url.Values
		status int
		want   string
	}{
		{"GET", func(r *http.Request) { r.Method = http.MethodGet }, form(), 405, "invalid_request"},
		{"JSON", func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, form(), 400, "invalid_request"},
		{"secret in the URL", func(r *http.Request) { r.URL.RawQuery = "client_secret=x" }, form(), 400, "invalid_request"},
		{"other scheme", func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, form("client_secret", ""), 401, "invalid_client"},
		{"repeated parameter", nil, twice, 400, "invalid_request"},
		{"too large", nil, form("junk", strings.Repeat("x", 300<<10)), 400, "invalid_request"},
		{"no grant type", nil, form("grant_type", ""), 400, "invalid_request"},
		{"other grant type", nil, form("grant_type", "password"), 400, "unsupported_grant_type"},
		{"claims that are no object", nil, form("claims", "[1]"), 400, "invalid_request"},
		{"claims that are null", nil, form("claims", "null"), 400, "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request := newRequest(t, server.TokenURL(), tt.form)
			if tt.change != nil {
				tt.change(request)
			}
			if got := mustDo(t, http.DefaultClient, request); got.status != tt.status || got.text("error") != tt.want {
				t.Errorf("answer = %d %s, want %d %s", got.status, got.body, tt.status, tt.want)
			}
		})
	}
}

func TestScope(t *testing.T) {
	limited := appClient()
	limited.ID, limited.Scopes = "limited", []string{"read", "write"}
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient(), limited}})
	tests := []struct {
		name  string
		form  url.Values
		want  string // the granted scope
		error string
	}{
		{"any", form("scope", "a b"), "a b", ""},
		{"allowed", form("client_id", "limited", "scope", "write"), "write", ""},
		{"one not allowed", form("client_id", "limited", "scope", "read admin"), "", "invalid_scope"},
		{"malformed", form("scope", "a  b"), "", "invalid_scope"},
		{"quote", form("scope", `a"b`), "", "invalid_scope"},
		{"none", form("scope", ""), "", "invalid_scope"},
		{"audience alone", form("scope", "", "audience", "api"), "", ""},
		{"resource alone, limited", form("client_id", "limited", "scope", "", "resource", "https://api"), "read write", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustPost(t, server.TokenURL(), tt.form); got.text("scope") != tt.want || got.text("error") != tt.error {
				t.Errorf("answer = %s, want scope %q, error %q", got.body, tt.want, tt.error)
			}
		})
	}
}

func TestTokenAnswer(t *testing.T) {
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}, TTL: 90 * time.Second, RefreshIn: 40 * time.Second})
	got := mustPost(t, server.TokenURL(), form())
	if got.fields["expires_in"] != 90.0 || got.fields["refresh_in"] != 40.0 || got.text("token_type") != "Bearer" || got.text("scope") != "read" {
		t.Errorf("answer = %v", got.fields)
	}
	if got.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(got.header.Get("Content-Type"), "application/json") {
		t.Errorf("header = %v", got.header)
	}
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(got.text("access_token")) {
		t.Error("the access token is not 32 bytes in base64url")
	}
	if again := mustPost(t, server.TokenURL(), form()); again.text("access_token") == got.text("access_token") {
		t.Error("two requests got the same access token")
	}
}

func TestRotatedSecret(t *testing.T) {
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}})
	server.SetClient(devserver.Client{ID: appID, Secret: secret.New("new")})
	if got := mustPost(t, server.TokenURL(), form()); got.status != 401 {
		t.Errorf("the old secret got %d", got.status)
	}
	if got := mustPost(t, server.TokenURL(), form("client_secret", "new")); got.status != 200 {
		t.Errorf("the new secret got %d", got.status)
	}
	server.RemoveClient(appID)
	if got := mustPost(t, server.TokenURL(), form("client_secret", "new")); got.status != 401 {
		t.Errorf("a removed client got %d", got.status)
	}
}

func TestEntraErrors(t *testing.T) {
	limited := appClient()
	limited.ID, limited.Scopes = "limited", []string{"https://api/.default"}
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient(), limited}, Tenants: []string{"contoso"}})
	const graph, correlation = "https://graph.microsoft.com/.default", "0f8fad5b-d9cb-469f-a165-70867728950e"
	tests := []struct {
		name   string
		tenant string
		form   url.Values
		status int
		error  string
		number float64
	}{
		{"wrong secret", "contoso", form("scope", graph, "client_secret", "no"), 401, "invalid_client", 7000215},
		{"unknown client", "contoso", form("scope", graph, "client_id", "nobody"), 400, "unauthorized_client", 700016},
		{"no credential", "contoso", form("scope", graph, "client_secret", ""), 401, "invalid_client", 7000216},
		{"unknown tenant", "fabrikam", form("scope", graph), 400, "invalid_request", 90002},
		{"scope without .default", "contoso", form(), 400, "invalid_scope", 1002012},
		{"scope not allowed", "contoso", form("scope", graph, "client_id", "limited"), 400, "invalid_scope", 70011},
		{"no scope", "contoso", form("scope", ""), 400, "invalid_request", 900144},
		{"only the scopes of a sign-in", "contoso", form("scope", "openid offline_access profile"), 400, "invalid_request", 900144},
		{"other grant", "contoso", form("grant_type", "password"), 400, "unsupported_grant_type", 70003},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request := newRequest(t, server.URL()+"/"+tt.tenant+"/oauth2/v2.0/token", tt.form)
			request.Header.Set("client-request-id", correlation)
			got := mustDo(t, http.DefaultClient, request)
			codes, _ := got.fields["error_codes"].([]any)
			if got.status != tt.status || got.text("error") != tt.error || len(codes) != 1 || codes[0] != tt.number {
				t.Fatalf("answer = %d %s, want %d %s %.0f", got.status, got.body, tt.status, tt.error, tt.number)
			}
			shape := `^AADSTS[0-9]+: .*\. Trace ID: [0-9a-f-]{36} Correlation ID: ` + correlation + ` Timestamp: \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$`
			if !regexp.MustCompile(shape).MatchString(got.text("error_description")) {
				t.Errorf("error_description = %q", got.text("error_description"))
			}
			if got.text("correlation_id") != correlation || got.header.Get("Client-Request-Id") != correlation {
				t.Error("client-request-id does not come back")
			}
			if got.text("trace_id") == "" || got.header.Get("X-Ms-Request-Id") != got.text("trace_id") || got.text("timestamp") == "" {
				t.Errorf("trace_id = %q, header %v", got.text("trace_id"), got.header)
			}
		})
	}
	t.Run("success", func(t *testing.T) {
		got := mustPost(t, server.URL()+"/contoso/oauth2/v2.0/token", form("scope", graph))
		if got.status != 200 || got.fields["ext_expires_in"] != 30.0 || !server.Valid(got.text("access_token")) {
			t.Errorf("answer = %d, fields %v", got.status, got.fields)
		}
	})
	t.Run("as MSAL asks", func(t *testing.T) {
		asked := form("scope", "https://api/.default openid offline_access profile", "client_id", "limited")
		if got := mustPost(t, server.URL()+"/contoso/oauth2/v2.0/token", asked); got.status != 200 {
			t.Errorf("answer = %d, fields %v", got.status, got.fields)
		}
	})
}

func TestUnknownIssuer(t *testing.T) {
	server := start(t, devserver.Options{Clients: []devserver.Client{appClient()}, Tenants: []string{"one"}})
	if got := mustPost(t, server.URL()+"/two/token", form()); got.status != 404 {
		t.Errorf("token request to an unknown issuer got %d", got.status)
	}
	if got := mustPost(t, server.URL()+"/one/token", form()); got.status != 200 {
		t.Errorf("token request to a known issuer got %d", got.status)
	}
}

func TestTokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := inMemory(t, devserver.Options{Clients: []devserver.Client{appClient()}, TTL: 10 * time.Second})
		token := mustDo(t, client, newRequest(t, server.TokenURL(), form())).text("access_token")
		pass(10*time.Second - 1)
		if !server.Valid(token) {
			t.Error("the token is invalid before its end")
		}
		if got := mustGet(t, client, server.URL()+"/resource", token); got.status != 200 || got.text("client_id") != appID {
			t.Errorf("resource = %d %s", got.status, got.body)
		}
		active := mustDo(t, client, newRequest(t, server.URL()+"/introspect", url.Values{"token": {token}}))
		expiry := float64(time.Now().Add(time.Second).Unix())
		if active.fields["active"] != true || active.text("client_id") != appID || active.text("scope") != "read" || active.fields["exp"] != expiry {
			t.Errorf("introspection = %s, want exp %.0f", active.body, expiry)
		}
		pass(1)
		if server.Valid(token) {
			t.Error("the token is valid after its end")
		}
		if got := mustGet(t, client, server.URL()+"/resource", token); got.status != 401 || !strings.Contains(got.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("resource = %d %v", got.status, got.header)
		}
		if got := mustDo(t, client, newRequest(t, server.URL()+"/introspect", url.Values{"token": {token}})); got.body != "{\"active\":false}\n" {
			t.Errorf("introspection = %s", got.body)
		}
	})
}

func TestResourceWithoutToken(t *testing.T) {
	server := start(t, devserver.Options{})
	got := mustGet(t, http.DefaultClient, server.URL()+"/resource", "")
	if got.status != 401 || !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer") || strings.Contains(got.header.Get("WWW-Authenticate"), "error") {
		t.Errorf("resource = %d %v", got.status, got.header)
	}
	if got := mustPost(t, server.URL()+"/introspect", url.Values{}); got.status != 400 {
		t.Errorf("introspection of nothing = %d", got.status)
	}
}
