package exchange

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
)

func TestDiscovery(t *testing.T) {
	type page struct {
		status         int
		body, location string
	}
	const oidc, rfc8414, good = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", `{"issuer":"ISSUER","token_endpoint":"ISSUER/token"}`
	tests := map[string]struct {
		pages map[string]page
		class policy.Class
		says  string // part of the error; "" for none
	}{
		"at the first place":        {map[string]page{oidc: {200, good, ""}}, policy.Success, ""},
		"behind 400":                {map[string]page{oidc: {400, "{}", ""}, rfc8414: {200, good, ""}}, policy.Success, ""},
		"behind 401":                {map[string]page{oidc: {401, "", ""}, rfc8414: {200, good, ""}}, policy.Success, ""},
		"behind 403":                {map[string]page{oidc: {403, "<Error/>", ""}, rfc8414: {200, good, ""}}, policy.Success, ""},
		"behind 405":                {map[string]page{oidc: {405, "", ""}, rfc8414: {200, good, ""}}, policy.Success, ""},
		"behind 410":                {map[string]page{oidc: {410, "", ""}, rfc8414: {200, good, ""}}, policy.Success, ""},
		"behind a web page":         {map[string]page{oidc: {200, "<!doctype html>", ""}, rfc8414: {200, good, ""}}, policy.Success, ""},
		"behind JSON of another":    {map[string]page{oidc: {200, `{"message":"hello"}`, ""}, rfc8414: {200, good, ""}}, policy.Success, ""},
		"behind a foreign redirect": {map[string]page{oidc: {302, "", "https://login.example.com/"}, rfc8414: {200, good, ""}}, policy.Success, ""},
		"redirected":                {map[string]page{oidc: {301, "", "/index.php"}, "/index.php": {200, good, ""}}, policy.Success, ""},
		"redirected in a circle":    {map[string]page{oidc: {302, "", oidc}}, policy.Transient, "redirect"},
		"nowhere":                   {nil, policy.Configuration, "there is nothing at this URL"},
		"an outage":                 {map[string]page{oidc: {503, "", ""}, rfc8414: {200, good, ""}}, policy.Transient, "HTTP 503"},
		"another issuer":            {map[string]page{oidc: {200, `{"issuer":"https://o","token_endpoint":"https://o/t"}`, ""}, rfc8414: {200, good, ""}}, policy.Configuration, `"https://o"`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var at string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				p, ok := tc.pages[r.URL.Path]
				if !ok {
					p.status = http.StatusNotFound
				}
				if p.location != "" {
					w.Header().Set("Location", p.location)
				}
				w.WriteHeader(p.status)
				_, _ = w.Write([]byte(strings.ReplaceAll(p.body, "ISSUER", at)))
			}))
			defer s.Close()
			at = s.URL
			e := NewEndpoint(config.Client{Issuer: at, RequestTimeout: 5 * time.Second})
			got, failed := e.Request(t.Context())
			if tc.says == "" {
				if failed != nil || got.TokenEndpoint != at+"/token" {
					t.Errorf("token endpoint %q, failure %+v", got.TokenEndpoint, failed)
				}
				return
			}
			if failed == nil || failed.Failure.Class != tc.class || !strings.Contains(failed.Failure.Error(), tc.says) {
				t.Fatalf("failure %+v", failed)
			}
			if tc.class == policy.Configuration && !strings.Contains(failed.Failure.Advice, "token_url") {
				t.Errorf("advice %q", failed.Failure.Advice)
			}
		})
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	tests := map[string]struct {
		status     int
		body, auth string // the answer's body and WWW-Authenticate
		class      policy.Class
		says, do   string // part of the error and of the advice
	}{
		"Hydra's method":     {401, `{"error":"invalid_client","error_description":"The client supports client authentication method 'client_secret_post', but 'client_secret_basic' was requested."}`, "", policy.Credential, "was requested", "auth_method"},
		"Keycloak's method":  {400, `{"error":"unauthorized_client","error_description":"Client secret not provided in request"}`, "", policy.Configuration, "not provided", "auth_method"},
		"Okta's two":         {400, `{"error":"invalid_request","error_description":"Cannot supply multiple client credentials."}`, "", policy.Configuration, "multiple", "auth_method"},
		"a wrong secret":     {401, `{"error":"unauthorized_client","error_description":"Invalid client secret"}`, "", policy.Credential, "Invalid client secret", "credential"},
		"in the header":      {401, "", `Bearer error="invalid_client", error_description="ended"`, policy.Credential, "invalid_client (401), ended", "credential"},
		"a web page":         {403, "<html><title>Blocked by the firewall</title></html>", "", policy.Configuration, "Blocked by the firewall", "token endpoint"},
		"text":               {400, "tenant unknown", "", policy.Transient, "tenant unknown", ""},
		"nothing there":      {404, "", "", policy.Configuration, "nothing at this URL", "token_url"},
		"success, but error": {200, `{"errcode":40013,"errmsg":"bad app"}`, "", policy.Transient, "40013: bad app", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			reply := provider.Reply{Status: tc.status, Header: http.Header{"Www-Authenticate": {tc.auth}}, Body: []byte(tc.body)}
			f := readReply(reply, time.Second, time.Now()).Failure
			if f == nil || f.Class != tc.class || !strings.Contains(f.Error(), tc.says) || !strings.Contains(f.Advice, tc.do) {
				t.Errorf("failure %+v", f)
			}
		})
	}
}
