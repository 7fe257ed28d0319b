package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/token"
)

const (
	headerCanary = "canary-header-0123456789abcdefghijklmnop"
	tokenCanary  = "canary-token-9f8e7d"
	graph        = "https://graph.microsoft.com"
)

// resources is a source that serves the resource graph, and others that fail in their ways.
type resources struct{ asked int }

func (s *resources) TokenFor(resource, clientID string) (token.Token, error) {
	s.asked++
	switch {
	case resource == "https://later.example.com":
		return token.Token{}, &agent.NotYetError{Token: "later", RetryIn: 17 * time.Second}
	case resource == "https://broken.example.com":
		return token.Token{}, errors.New("a lookup that fails with " + tokenCanary)
	case strings.TrimSuffix(resource, "/") != graph:
		return token.Token{}, fmt.Errorf("resource %q: %w", resource, agent.ErrUnknownResource)
	case clientID != "" && clientID != "app":
		return token.Token{}, fmt.Errorf("client %q: %w", clientID, agent.ErrOtherClient)
	}
	return token.Token{
		Name: "graph", AccessToken: secret.New(tokenCanary), TokenType: "Bearer", ClientID: "app",
		Expiry: time.Unix(1790000000, 999), Scope: "other " + graph + "/.default",
	}, nil
}

func newIdentityHandler(source IdentitySource) http.Handler {
	return Identity(source, secret.New(headerCanary), slog.New(slog.DiscardHandler))
}

// sound is a request that gets a token.
func sound() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:9466/msi/token?api-version=2019-08-01&resource="+graph, nil)
	r.Header.Set("X-IDENTITY-HEADER", headerCanary)
	return r
}

func asking(format string, args ...any) func(*http.Request) {
	return func(r *http.Request) { r.URL.RawQuery = fmt.Sprintf(format, args...) }
}

func atHost(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

func withHeader(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

func byMethod(name string) func(*http.Request) { return func(r *http.Request) { r.Method = name } }

func atPath(name string) func(*http.Request) { return func(r *http.Request) { r.URL.Path = name } }

func withHeaders(values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header["X-Identity-Header"] = values }
}

const asked = "api-version=2019-08-01&resource="

// matrix is who may not have a token, and what they are told.
var matrix = map[string]struct {
	change  func(*http.Request)
	status  int
	message string
}{
	"POST":              {byMethod("POST"), 405, "the method is GET"},
	"HEAD":              {byMethod("HEAD"), 405, "the method is GET"},
	"OPTIONS":           {byMethod("OPTIONS"), 405, "the method is GET"},
	"TRACE":             {byMethod("TRACE"), 405, "the method is GET"},
	"no path":           {atPath("/"), 404, "only /msi/token"},
	"another path":      {atPath("/msi/token/"), 404, "only /msi/token"},
	"the IMDS path":     {atPath("/metadata/identity/oauth2/token"), 404, "only /msi/token"},
	"POST elsewhere":    {func(r *http.Request) { r.Method, r.URL.Path = "POST", "/x" }, 404, "only /msi/token"},
	"no header":         {withHeaders(), 401, "X-IDENTITY-HEADER"},
	"an empty header":   {withHeaders(""), 401, "X-IDENTITY-HEADER"},
	"a wrong header":    {withHeaders("wrong"), 401, "X-IDENTITY-HEADER"},
	"half a header":     {withHeaders(headerCanary[:20]), 401, "X-IDENTITY-HEADER"},
	"more than it":      {withHeaders(headerCanary + "x"), 401, "X-IDENTITY-HEADER"},
	"in capitals":       {withHeaders(strings.ToUpper(headerCanary)), 401, "X-IDENTITY-HEADER"},
	"two headers":       {withHeaders(headerCanary, headerCanary), 401, "X-IDENTITY-HEADER"},
	"in another header": {func(r *http.Request) { r.Header = http.Header{"Secret": {headerCanary}} }, 401, "X-IDENTITY-HEADER"},
	"an older library": {func(r *http.Request) {
		r.Header, r.URL.RawQuery = http.Header{"Secret": {"x"}}, "api-version=2017-09-01&resource=r"
	}, 401, `api-version "2017-09-01" is not spoken here`},
	"no header, other faults": {func(r *http.Request) { r.Header, r.URL.RawQuery = http.Header{}, "" }, 401, "X-IDENTITY-HEADER"},

	"a rebound host":                    {atHost("attacker.example.com:9466"), 403, "loopback host"},
	"a name that looks so":              {atHost("127.0.0.1.example.com"), 403, "loopback host"},
	"a name below localhost":            {atHost("a.localhost"), 403, "loopback host"},
	"a name after localhost":            {atHost("localhost.example.com:9466"), 403, "loopback host"},
	"the name as an address":            {atHost("2130706433"), 403, "loopback host"},
	"every address":                     {atHost("0.0.0.0:9466"), 403, "loopback host"},
	"another address":                   {atHost("192.0.2.1:9466"), 403, "loopback host"},
	"link-local":                        {atHost("169.254.169.254"), 403, "loopback host"},
	"IPv6, not loopback":                {atHost("[2001:db8::1]:9466"), 403, "loopback host"},
	"IPv6 with a zone":                  {atHost("[::1%25eth0]:9466"), 403, "loopback host"},
	"no host":                           {atHost(""), 403, "loopback host"},
	"a port alone":                      {atHost(":9466"), 403, "loopback host"},
	"a rebound host without the header": {func(r *http.Request) { r.Host, r.Header = "attacker.example.com", http.Header{} }, 403, "loopback host"},

	"X-Forwarded-For":   {withHeader("X-Forwarded-For", "127.0.0.1"), 403, "forwarded"},
	"empty, but there":  {withHeader("X-Forwarded-For", ""), 403, "forwarded"},
	"in small letters":  {withHeader("x-forwarded-for", "::1"), 403, "forwarded"},
	"X-Forwarded-Host":  {withHeader("X-Forwarded-Host", "localhost"), 403, "forwarded"},
	"X-Forwarded-Proto": {withHeader("X-Forwarded-Proto", "http"), 403, "forwarded"},
	"Forwarded":         {withHeader("Forwarded", "for=127.0.0.1"), 403, "forwarded"},

	"no query":            {asking(""), 400, `api-version is "", want 2019-08-01`},
	"no version":          {asking("resource=%s", graph), 400, `api-version is "", want 2019-08-01`},
	"an older version":    {asking("api-version=2017-09-01&resource=%s", graph), 400, `api-version "2017-09-01" is not spoken here, only 2019-08-01`},
	"the version of IMDS": {asking("api-version=2018-02-01&resource=%s", graph), 400, `api-version "2018-02-01" is not spoken here`},
	"a version and more":  {asking("api-version=2019-08-01-preview&resource=%s", graph), 400, "api-version is"},
	"two versions":        {asking("%s%s&api-version=2019-08-01", asked, graph), 400, "api-version is there more than once"},
	"no resource":         {asking("api-version=2019-08-01"), 400, "resource is missing"},
	"an empty resource":   {asking("%s", asked), 400, "resource is missing"},
	"two resources":       {asking("%s%s&resource=%s", asked, graph, graph), 400, "resource is there more than once"},
	"an unknown resource": {asking("%shttps://vault.azure.net", asked), 400, `no token for resource "https://vault.azure.net": identity_endpoint.token_for`},
	"a scope":             {asking("%s%s/.default", asked, graph), 400, "no token for resource"},
	"a resource of bytes": {asking("%s%%ff%%00", asked), 400, `no token for resource "\xff\x00"`},
	"a long resource":     {asking("%s%s", asked, strings.Repeat("x", 3000)), 400, strings.Repeat("x", 200) + "…"},
	"another client":      {asking("%s%s&client_id=other", asked, graph), 400, `client_id "other" is not the client`},
	"two clients":         {asking("%s%s&client_id=app&client_id=app", asked, graph), 400, "client_id is there more than once"},
	"clientid":            {asking("%s%s&clientid=other", asked, graph), 400, "clientid is not known here"},
	"msi_client_id":       {asking("%s%s&msi_client_id=other", asked, graph), 400, "msi_client_id is not known here"},
	"an empty one":        {asking("%s%s&msi_client_id=", asked, graph), 400, "msi_client_id is not known here"},
	"in other letters":    {asking("%s%s&ClientID=other", asked, graph), 400, "ClientID is not known here"},
	"client_id respelt":   {asking("%s%s&Client_Id=other", asked, graph), 400, "client_id is there more than once, or in another spelling"},
	"resource respelt":    {asking("%s%s&Resource=other", asked, graph), 400, "resource is there more than once, or in another spelling"},
	"with separators":     {asking("%s%s&msi-object-id=1", asked, graph), 400, "msi-object-id is not known here"},
	"an application id":   {asking("%s%s&app_id=other", asked, graph), 400, "app_id is not known here"},
	"an object id":        {asking("%s%s&object_id=app", asked, graph), 400, "object_id is not known here"},
	"a principal":         {asking("%s%s&principal_id=app", asked, graph), 400, "principal_id is not known here"},
	"a resource id":       {asking("%s%s&mi_res_id=/subscriptions/1", asked, graph), 400, "mi_res_id is not known here"},
	"a resource id, IMDS": {asking("%s%s&msi_res_id=", asked, graph), 400, "msi_res_id is not known here"},
	"an oversized query":  {asking("%s%s&x=%s", asked, graph, strings.Repeat("y", longestQuery)), 400, "longer than 4096 bytes"},
	"a broken query":      {asking("%s%%zz", asked), 400, "cannot be read"},
	"a semicolon":         {asking("%s%s;x=y", asked, graph), 400, "cannot be read"},

	"no token yet":        {asking("%shttps://later.example.com", asked), 503, "no token for the resource yet"},
	"a lookup that fails": {asking("%shttps://broken.example.com", asked), 500, "cannot be looked up"},
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestIdentityRefuses(t *testing.T) {
	seen := map[string]bool{}
	for name, tc := range matrix {
		t.Run(name, func(t *testing.T) {
			source := &resources{}
			r := sound()
			tc.change(r)
			w := httptest.NewRecorder()
			newIdentityHandler(source).ServeHTTP(w, r)
			refusal := readRefusal(t, w)
			if w.Code != tc.status || refusal.StatusCode != tc.status || !strings.Contains(refusal.Message, tc.message) {
				t.Errorf("status %d, body %+v, want %d and %q", w.Code, refusal, tc.status, tc.message)
			}
			if !uuid.MatchString(refusal.CorrelationID) || seen[refusal.CorrelationID] {
				t.Errorf("correlation id %q is no UUID, or not new", refusal.CorrelationID)
			}
			seen[refusal.CorrelationID] = true
			if got, want := w.Header().Get("Retry-After"), map[int]string{503: "17"}[tc.status]; got != want {
				t.Errorf("Retry-After is %q, want %q", got, want)
			}
			if got, want := w.Header().Get("Allow"), map[int]string{405: "GET"}[tc.status]; got != want {
				t.Errorf("Allow is %q, want %q", got, want)
			}
			if tc.status < 500 && tc.status != 400 && source.asked > 0 {
				t.Error("a token was looked up for a caller who may have none")
			}
		})
	}
}

type refusalBody struct {
	StatusCode    int
	Message       string
	CorrelationID string
}

// readRefusal reads an error's body, which is JSON and nothing secret whatever the error is.
func readRefusal(t *testing.T, w *httptest.ResponseRecorder) refusalBody {
	t.Helper()
	if text := w.Body.String(); strings.Contains(text, tokenCanary) || strings.Contains(text, headerCanary) {
		t.Fatalf("the answer holds a secret: %s", text)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type is %q", got)
	}
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	var body refusalBody
	decoder := json.NewDecoder(w.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		t.Fatalf("the body is not the error's JSON: %v", err)
	}
	return body
}

func TestIdentityHandsOutTheToken(t *testing.T) {
	tests := map[string]struct {
		change   func(*http.Request)
		resource string
	}{
		"as it is":                     {func(*http.Request) {}, graph},
		"with a slash":                 {asking("%s%s/", asked, graph), graph + "/"},
		"escaped":                      {asking("%s%s", asked, url.QueryEscape(graph)), graph},
		"in another order":             {asking("client_id=app&resource=%s&api-version=2019-08-01", graph), graph},
		"its client":                   {asking("%s%s&client_id=app", asked, graph), graph},
		"an empty client":              {asking("%s%s&client_id=", asked, graph), graph},
		"with what MSAL adds for CAE":  {asking("%s%s&xms_cc=cp1&token_sha256_to_refresh=00", asked, graph), graph},
		"localhost":                    {atHost("localhost:9466"), graph},
		"localhost in capitals":        {atHost("LocalHost"), graph},
		"another loopback address":     {atHost("127.8.9.1:9466"), graph},
		"IPv6":                         {atHost("[::1]:9466"), graph},
		"IPv6 without a port":          {atHost("[::1]"), graph},
		"IPv4 in IPv6":                 {atHost("[::ffff:127.0.0.1]:9466"), graph},
		"header in small letters":      {func(r *http.Request) { r.Header = http.Header{}; r.Header.Set("x-identity-header", headerCanary) }, graph},
		"with the header of Metadata":  {withHeader("Metadata", "true"), graph},
		"a query of the longest kind":  {asking("%s%s&x=%s", asked, graph, strings.Repeat("y", longestQuery-len(asked)-len(graph)-3)), graph},
		"an address with a query only": {func(r *http.Request) { r.RequestURI = "" }, graph},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := sound()
			tc.change(r)
			w := httptest.NewRecorder()
			newIdentityHandler(&resources{}).ServeHTTP(w, r)
			want := fmt.Sprintf(`{"access_token":%q,"expires_on":"1790000000","expires_in":"0","resource":%q,"token_type":"Bearer","client_id":"app"}`+"\n", tokenCanary, tc.resource)
			if got := w.Body.String(); w.Code != http.StatusOK || got != want {
				t.Errorf("status %d, body %s, want %s", w.Code, got, want)
			}
			if got := w.Header().Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control is %q", got)
			}
		})
	}
}

// FuzzIdentityQuery: whatever is asked, the answer is the token under exactly the resource that was
// asked for, or an error in JSON that holds no secret.
func FuzzIdentityQuery(f *testing.F) {
	handler := newIdentityHandler(&resources{})
	f.Fuzz(func(t *testing.T, raw string) {
		r := sound()
		r.URL.RawQuery = raw
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			if got := readRefusal(t, w); got.StatusCode != w.Code || got.Message == "" {
				t.Errorf("status %d with body %+v", w.Code, got)
			}
			return
		}
		var answer identityAnswer
		if err := json.NewDecoder(w.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		values, err := url.ParseQuery(raw)
		if err != nil || answer.Resource != values.Get("resource") || strings.TrimSuffix(answer.Resource, "/") != graph ||
			answer.AccessToken != tokenCanary || values.Get("api-version") != identityAPIVersion {
			t.Errorf("%q gets %+v, %v", raw, answer, err)
		}
	})
}

func TestListenLoopback(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:0":     "",
		"localhost:0":     "",
		"0.0.0.0:0":       "not a loopback address",
		":0":              "not a loopback address",
		"127.0.0.1:70000": "invalid port",
	} {
		listener, err := ListenLoopback(address)
		if listener != nil {
			_ = listener.Close()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("ListenLoopback(%q): %v, want %q", address, err, want)
		}
	}
}

// lasting is a source whose token lives for some time still.
type lasting struct{ left time.Duration }

func (s lasting) TokenFor(string, string) (token.Token, error) {
	return token.Token{AccessToken: secret.New(tokenCanary), TokenType: "Bearer", Expiry: time.Now().Add(s.left)}, nil
}

func TestIdentitySaysHowLongATokenLives(t *testing.T) {
	for name, tc := range map[string]struct {
		left time.Duration
		want string
	}{
		"an hour":        {time.Hour, "3600"},
		"not whole":      {90*time.Second + time.Millisecond, "90"},
		"its last":       {500 * time.Millisecond, "0"},
		"over":           {-time.Minute, "0"},
		"longer than it": {48 * time.Hour, "172800"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := httptest.NewRecorder()
				newIdentityHandler(lasting{tc.left}).ServeHTTP(w, sound())
				var answer struct {
					ExpiresIn any `json:"expires_in"`
				}
				if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.ExpiresIn != tc.want {
					t.Errorf("%v, %v, want %q", answer.ExpiresIn, err, tc.want)
				}
			})
		})
	}
}
