package exchange

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
)

// page is what a server has at an address.
type page struct {
	status         int
	body, location string
}

func TestDiscovery(t *testing.T) {
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
		"redirected in a circle":    {map[string]page{oidc: {302, "", oidc}}, policy.Configuration, "redirect"},
		"no token endpoint":         {map[string]page{oidc: {200, `{"issuer":"ISSUER"}`, ""}}, policy.Configuration, "is missing"},
		"a relative one":            {map[string]page{oidc: {200, `{"issuer":"ISSUER","token_endpoint":"/token"}`, ""}}, policy.Configuration, "not a usable URL"},
		"a file":                    {map[string]page{oidc: {200, `{"issuer":"ISSUER","token_endpoint":"file:///token"}`, ""}}, policy.Configuration, "not a usable URL"},
		"one that is not https":     {map[string]page{oidc: {200, `{"issuer":"ISSUER","token_endpoint":"http://login.example.com/token"}`, ""}}, policy.Configuration, "not https"},
		"nowhere":                   {nil, policy.Configuration, "there is nothing at this URL"},
		"an outage":                 {map[string]page{oidc: {503, "", ""}, rfc8414: {200, good, ""}}, policy.Transient, "HTTP 503"},
		"another issuer":            {map[string]page{oidc: {200, `{"issuer":"https://o","token_endpoint":"https://o/t"}`, ""}, rfc8414: {200, good, ""}}, policy.Configuration, `"https://o"`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			at, e := serving(t, tc.pages)
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

// serving is an issuer with these pages, ISSUER in which is its own address.
func serving(t *testing.T, pages map[string]page) (at string, e *Endpoint) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := pages[r.URL.Path]
		if !ok {
			p.status = http.StatusNotFound
		}
		if p.location != "" {
			w.Header().Set("Location", p.location)
		}
		w.WriteHeader(p.status)
		_, _ = w.Write([]byte(strings.ReplaceAll(p.body, "ISSUER", at)))
	}))
	t.Cleanup(s.Close)
	at = s.URL
	return at, NewEndpoint(config.Client{Issuer: at, RequestTimeout: 5 * time.Second})
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
		"text":               {400, "tenant unknown", "", policy.Configuration, "tenant unknown", "token endpoint"},
		"IBM Cloud":          {400, `{"errorCode":"BXNIM0415E","errorMessage":"Provided API key could not be found."}`, "", policy.Credential, "BXNIM0415E", "API key"},
		"problem details":    {400, `{"type":"about:blank","title":"Bad Request","status":400,"detail":"client is disabled"}`, "", policy.Configuration, "client is disabled", "enable the client"},
		"a redirect":         {302, "", "", policy.Configuration, "redirect", "token endpoint"},
		"no reason":          {499, "", "", policy.Transient, "HTTP 499, with no OAuth error", ""},
		"an empty 400":       {400, "", "", policy.Transient, "Bad Request, with no OAuth error", ""},
		"no Run As user":     {400, `{"error":"invalid_grant","error_description":"no client credentials user enabled"}`, "", policy.Configuration, "invalid_grant (400)", "Run As user"},
		"another domain":     {400, `{"error":"invalid_grant","error_description":"request not supported on this domain"}`, "", policy.Configuration, "invalid_grant (400)", "My Domain"},
		"Salesforce's fault": {400, `{"error":"unknown_error","error_description":"retry your request"}`, "", policy.Transient, "unknown_error (400)", ""},
		"Salesforce's rate":  {403, `{"error":"invalid_grant","error_description":"login rate exceeded"}`, "", policy.Transient, "login rate", ""},
		"service accounts":   {401, `{"error":"unauthorized_client","error_description":"Client not enabled to retrieve service account"}`, "", policy.Configuration, "unauthorized_client (401)", "service account"},
		"Keycloak, disabled": {401, `{"error":"invalid_client","error_description":"Client disabled"}`, "", policy.Configuration, "disabled", "enable the client"},
		"Auth0's grant":      {403, `{"error":"access_denied","error_description":"Client is not authorized to access \"https://api\". You might need to create a \"client-grant\"."}`, "", policy.Configuration, "access_denied (403)", "client grant"},
		"Auth0's audience":   {403, `{"error":"access_denied","error_description":"Service not enabled within domain: https://api"}`, "", policy.Configuration, "access_denied (403)", "audience"},
		"Okta's rule":        {400, `{"error":"access_denied","error_description":"Policy evaluation failed for this request, please check the policy configurations."}`, "", policy.Refused, "access_denied (400)", "access policy"},
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

// A wait is kept whatever kind of answer asks for it.
func TestWaitsOfAnswersWithoutAToken(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		class  policy.Class
	}{
		"a redirect":              {302, "", policy.Throttled},
		"nothing":                 {200, "", policy.Throttled},
		"a page":                  {200, "<html>maintenance</html>", policy.Throttled},
		"JSON":                    {202, `{"message":"busy"}`, policy.Throttled},
		"no content":              {204, "", policy.Throttled},
		"success, but an error":   {200, `{"error":"temporarily_unavailable"}`, policy.Transient},
		"success, but a refusal":  {200, `{"error":"invalid_client"}`, policy.Credential},
		"words":                   {400, "too busy", policy.Throttled},
		"not of this kind: error": {500, "", policy.Throttled},
	} {
		t.Run(name, func(t *testing.T) {
			reply := provider.Reply{Status: tc.status, Header: http.Header{"Retry-After": {"60"}}, Body: []byte(tc.body)}
			got := readReply(reply, time.Second, time.Now())
			if got.Failure == nil || got.Failure.Class != tc.class || got.Outcome.RetryAfter != time.Minute || !got.Outcome.HasRetryAfter {
				t.Errorf("failure %+v, outcome %+v", got.Failure, got.Outcome)
			}
		})
	}
}

// What to do about a refused grant is another thing than about a refused secret; the class is the same.
func TestRefusedGrantsSayWhatToDo(t *testing.T) {
	const (
		jwtBearer     = "urn:ietf:params:oauth:grant-type:jwt-bearer"
		tokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	)
	for name, tc := range map[string]struct {
		grant, body, date string
		class             policy.Class
		want              string // part of the advice
	}{
		"invalid_grant":             {jwtBearer, `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`, "", policy.Credential, "compare the assertion with what is registered at the server: subject, assertion_audience"},
		"invalid_grant, wrong time": {jwtBearer, `{"error":"invalid_grant"}`, "Mon, 02 Jan 2006 15:04:05 GMT", policy.Credential, "set the clock: "},
		"known words":               {jwtBearer, `{"error":"invalid_grant","error_description":"request not supported on this domain"}`, "", policy.Configuration, "My Domain"},
		"no consent":                {jwtBearer, `{"error":"consent_required"}`, "", policy.Refused, "consent to this client at the server once"},
		"not for this client":       {jwtBearer, `{"error":"unauthorized_client"}`, "", policy.Configuration, "allow this client grant jwt_bearer"},
		"not offered":               {jwtBearer, `{"error":"unsupported_grant_type"}`, "", policy.Configuration, "the server does not offer grant jwt_bearer"},
		"client_credentials":        {"client_credentials", `{"error":"invalid_grant"}`, "", policy.Credential, "check the client's credential against what is registered"},
		"subject token":             {tokenExchange, `{"error":"invalid_request"}`, "", policy.Configuration, "check subject_token in the credential's config"},
		"subject token, refused":    {tokenExchange, `{"error":"invalid_grant"}`, "", policy.Credential, "check subject_token in the credential's config"},
		"exchange not offered":      {tokenExchange, `{"error":"unsupported_grant_type"}`, "", policy.Configuration, "the server does not offer grant token_exchange"},
		"a scope":                   {jwtBearer, `{"error":"invalid_scope"}`, "", policy.Configuration, "check the token's scopes"},
	} {
		t.Run(name, func(t *testing.T) {
			header := http.Header{}
			if tc.date != "" {
				header.Set("Date", tc.date)
			}
			got := Read(tc.grant, provider.Reply{Status: http.StatusBadRequest, Header: header, Body: []byte(tc.body)}, nil, time.Second, time.Now())
			if got.Failure == nil || got.Failure.Class != tc.class || !strings.Contains(got.Failure.Advice, tc.want) {
				t.Errorf("failure %+v, want class %v and %q", got.Failure, tc.class, tc.want)
			}
		})
	}
}

// TestRequestsBeginTogether: requests of one client find out at the same time where they go.
func TestRequestsBeginTogether(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	e := NewEndpoint(config.Client{TokenURL: "https://login.example.com/token", CAFile: roots})
	var together sync.WaitGroup
	for range 4 {
		together.Go(func() {
			if _, failed := e.Request(t.Context()); failed != nil {
				t.Error(failed.Failure)
			}
		})
	}
	together.Wait()
}
