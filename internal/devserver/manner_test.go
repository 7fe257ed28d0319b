package devserver_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
)

func TestManners(t *testing.T) {
	for _, c := range []struct {
		manner, path, issuer string
		asks                 []string // what a good request has more than usual
		refused              int      // the status of an answer to a wrong secret
		code                 string
		noExpiry             bool
	}{
		{"entra", "/demo/oauth2/v2.0/token", "/demo/v2.0", []string{"scope", "api://app/.default"}, 401, "invalid_client", false},
		{"keycloak", "/realms/demo/protocol/openid-connect/token", "/realms/demo", nil, 401, "unauthorized_client", false},
		{"okta", "/oauth2/demo/v1/token", "/oauth2/demo", nil, 401, "invalid_client", false},
		{"auth0", "/oauth/token", "/", []string{"audience", "https://api.example.com", "scope", ""}, 401, "access_denied", false},
		{"cognito", "/oauth2/token", "", nil, 400, "invalid_client", false},
		{"salesforce", "/services/oauth2/token", "", []string{"scope", ""}, 400, "invalid_client", true},
		{"ping", "/demo/as/token", "/demo/as", nil, 401, "invalid_client", false},
		{"adfs", "/adfs/oauth2/token", "/adfs", []string{"resource", "https://api.example.com"}, 400, "invalid_client", false},
	} {
		t.Run(c.manner, func(t *testing.T) {
			server := start(t, devserver.Options{Manner: c.manner, Clients: []devserver.Client{appClient()}})
			if server.TokenURL() != server.URL()+c.path || server.Issuer() != server.URL()+c.issuer {
				t.Errorf("the token endpoint is %s and the issuer %s", server.TokenURL(), server.Issuer())
			}
			good := mustPost(t, server.TokenURL(), form(c.asks...))
			if _, has := good.fields["expires_in"]; good.status != 200 || has == c.noExpiry || !server.Valid(good.text("access_token")) {
				t.Errorf("a good request is answered with %d %s", good.status, good.body)
			}
			bad := mustPost(t, server.TokenURL(), form(append(c.asks, "client_secret", "another")...))
			if bad.status != c.refused || bad.text("error") != c.code {
				t.Errorf("a wrong secret is answered with %d %s, want %d %s", bad.status, bad.body, c.refused, c.code)
			}
			if _, described := bad.fields["error_description"]; described == (c.manner == "cognito") {
				t.Errorf("the refusal is %s", bad.body)
			}
		})
	}
}

func TestMannersWant(t *testing.T) {
	for _, c := range []struct{ manner, missing, code string }{
		{"auth0", "audience", "access_denied"},
		{"adfs", "resource", "access_denied"},
		{"google", "another grant", "unsupported_grant_type"},
	} {
		server := start(t, devserver.Options{Manner: c.manner, Clients: []devserver.Client{appClient()}})
		got := mustPost(t, server.TokenURL(), form())
		if got.status < 400 || got.text("error") != c.code {
			t.Errorf("%s: a request without %s is answered with %d %s", c.manner, c.missing, got.status, got.body)
		}
	}
}

func TestMannersOfMetadata(t *testing.T) {
	for manner, status := range map[string]int{"keycloak": 200, "okta": 200, "auth0": 200, "ping": 200, "adfs": 200, "entra": 200, "cognito": 400} {
		server := start(t, devserver.Options{Manner: manner})
		got := mustGet(t, http.DefaultClient, strings.TrimSuffix(server.Issuer(), "/")+"/.well-known/openid-configuration", "")
		if got.status != status || status == 200 && (got.text("issuer") != server.Issuer() || got.text("token_endpoint") != server.TokenURL()) {
			t.Errorf("%s: the metadata is %d %s", manner, got.status, got.body)
		}
	}
}

func TestMannersOfSignatures(t *testing.T) {
	pair := newKeyPair(t, devserver.KeyRSA, time.Hour)
	server := start(t, devserver.Options{Manner: "adfs", Clients: []devserver.Client{{ID: appID, Certificates: pairCerts(pair)}}})
	for algorithm, status := range map[string]int{"RS256": 200, "PS256": 400} {
		claims := goodClaims(server.TokenURL(), algorithm)
		values := assertionForm(signJWT(t, pair.key, members{"alg": algorithm, "x5t": thumbprintSHA1(pair.cert)}, claims))
		values.Set("resource", "https://api.example.com")
		if got := mustPost(t, server.TokenURL(), values); got.status != status {
			t.Errorf("an assertion signed with %s is answered with %d %s", algorithm, got.status, got.body)
		}
	}
}

func TestUnknownManner(t *testing.T) {
	_, err := devserver.New(devserver.Options{Manner: "oktaa"})
	if err == nil || !strings.Contains(err.Error(), `no manner "oktaa"`) || !strings.Contains(err.Error(), "okta, auth0") {
		t.Errorf("the error is %v", err)
	}
}
