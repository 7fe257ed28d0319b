package jwtcred

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credtest"
	"github.com/credagent/credagent/plugins/plugintest"
)

const signature = "Y2FuYXJ5LXNpZ25hdHVyZQ"

// signed is a JWT as somebody else would have signed it.
func signed(alg, claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode(fmt.Appendf(nil, `{"alg":%q}`, alg)) + "." + encode([]byte(claims)) + "." + signature
}

func TestOpenFindsEveryProblem(t *testing.T) {
	const known = ": unknown key; known are assertion_file, assertion_type, audience, auth_method, send_client_id, source, subject_token"
	const one = "exactly one of assertion_file and source is needed"
	for name, tc := range map[string]struct {
		config string
		want   []string
	}{
		"sound":    {`{"assertion_file":"/a"}`, nil},
		"nothing":  {`{}`, []string{one}},
		"a type":   {`{"assertion_file":"/a","assertion_type":"jwt_spiffe"}`, nil},
		"odd type": {`{"assertion_file":"/a","assertion_type":"jwt"}`, []string{"assertion_type: is neither jwt_bearer nor jwt_spiffe"}},
		"a source": {`{"source":{"gcp":{}},"audience":"https://login.example.com"}`, nil},
		"no word":  {`{"source":{"gcp":{}}}`, []string{"audience: is needed: whom the assertion is for, as the server wants it, often its issuer or its token endpoint"}},
		"relative": {`{"assertion_file":"a"}`, []string{"assertion_file: is not an absolute path"}},
		"several":  {`{"assertion_file":["/a"],"b":1,"a":1}`, []string{"a" + known, "assertion_file: is not a string", "b" + known, one}},
		"a list":   {`[]`, []string{"is not an object of keys and values", one}},
	} {
		t.Run(name, func(t *testing.T) { credtest.CheckProblems(t, Provider{}, tc.config, tc.want) })
	}
}

func TestLoadFails(t *testing.T) {
	parts := strings.Split(signed("RS256", `{"sub":"canary-subject"}`), ".")
	for name, tc := range map[string]struct{ content, want string }{
		"empty":          {"", "it is empty"},
		"blank":          {" \n", "it is not a signed JWT"},
		"no JWT":         {"canary-secret", "it is not a signed JWT"},
		"two parts":      {parts[0] + "." + parts[1], "it is not a signed JWT"},
		"no base64":      {parts[0] + ".canary!." + parts[2], "it is not a signed JWT"},
		"unsigned":       {signed("none", "{}"), "it is not a signed JWT"},
		"unsigned, None": {signed("None", "{}"), "it is not a signed JWT"},
		"no algorithm":   {signed("", "{}"), "it is not a signed JWT"},
		"no signature":   {parts[0] + "." + parts[1] + ".", "it is not a signed JWT"},
		"header no JSON": {"YWJj." + parts[1] + "." + parts[2], "it is not a signed JWT"},
		"four parts":     {strings.Join(append(parts, "YWJj"), "."), "it is not a signed JWT"},
		"two lines":      {parts[0] + "." + parts[1] + "\n." + parts[2], "it is not a signed JWT"},
		"a list":         {parts[0] + ".W10." + parts[2], "it is not a signed JWT"},
		"claims no JSON": {signed("RS256", "canary-claims"), "it is not a signed JWT"},
		"expired, text":  {signed("RS256", `{"exp":"1000000000"}`), "it expired at 2001-09-09T01:46:40Z; whatever writes it has stopped"},
		"expired":        {signed("RS256", `{"exp":1000000000}`), "it expired at 2001-09-09T01:46:40Z; whatever writes it has stopped"},
		"too large":      {strings.Repeat("canary-x", 1<<17+1), "larger than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			file := credtest.File(t, "assertion", []byte(tc.content))
			source := credtest.Open(t, Provider{}, map[string]any{"assertion_file": file})
			credtest.CheckFails(t, source, tc.want, []byte(tc.content), []byte("canary-"))
			if !strings.HasPrefix(mustErr(t, source), fmt.Sprintf("reading assertion_file %q: ", file)) {
				t.Error("the error does not name the file")
			}
		})
	}
	missing := credtest.Open(t, Provider{}, map[string]any{"assertion_file": filepath.Join(t.TempDir(), "no")})
	credtest.CheckFails(t, missing, "no such file or directory")
}

func mustErr(t *testing.T, source plugins.Source) string {
	t.Helper()
	_, err := source.Load(t.Context())
	if err == nil {
		t.Fatal("the credential loaded")
	}
	return err.Error()
}

func TestLoad(t *testing.T) {
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	for name, tc := range map[string]struct {
		claims   string
		notAfter time.Time
		identity string
	}{
		"service account": {fmt.Sprintf(`{"sub":"system:serviceaccount:a:b","exp":%d}`, end.Unix()), end, "system:serviceaccount:a:b"},
		"fraction":        {fmt.Sprintf(`{"exp":%d.75}`, end.Unix()), end, ""},
		"no claims":       {`{}`, time.Time{}, ""},
		"exp as text":     {fmt.Sprintf(`{"exp":"%d"}`, end.Unix()), end, ""},
		"exp no number":   {`{"exp":"soon","sub":"a"}`, time.Time{}, "a"},
		"exp too far":     {`{"exp":1e18}`, time.Time{}, ""},
		"exp negative":    {`{"exp":-1}`, time.Time{}, ""},
		"exp of no kind":  {`{"exp":{"at":1},"iat":[],"nbf":true}`, time.Time{}, ""},
		"sub a number":    {`{"sub":4711}`, time.Time{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			jwt := signed("ES256", tc.claims)
			file := credtest.File(t, "assertion", []byte("\n"+jwt+"\n"))
			config := map[string]any{"assertion_file": file}
			credential := credtest.Load(t, Provider{}, config)
			if !credential.NotAfter.Equal(tc.notAfter) || credential.Identity != tc.identity {
				t.Errorf("credential %+v", credential)
			}
			r := &plugins.Request{Form: url.Values{"client_id": {"app"}}, Header: http.Header{}}
			if err := credential.Authenticate(r); err != nil {
				t.Fatal(err)
			}
			want := url.Values{"client_id": {"app"}, "client_assertion_type": {AssertionType}, "client_assertion": {jwt}}
			if r.Form.Encode() != want.Encode() || len(r.Header) != 0 {
				t.Errorf("form %v, header %v", r.Form, r.Header)
			}
			if files := credtest.Open(t, Provider{}, config).Files(); len(files) != 1 || files[0] != file {
				t.Errorf("files %v", files)
			}
		})
	}
}

// Which algorithms and headers are good is the server's to judge, and so is what is encrypted to it.
func TestLoadPassesOnWhatServersMayKnow(t *testing.T) {
	encode := base64.RawURLEncoding.EncodeToString
	odd := func(header string) string {
		return encode([]byte(header)) + "." + encode([]byte(`{"sub":"a"}`)) + "." + signature
	}
	for name, jwt := range map[string]string{
		"HS256":             signed("HS256", "{}"),
		"Ed25519":           signed("Ed25519", "{}"),
		"ES256K":            signed("ES256K", "{}"),
		"ML-DSA-65":         signed("ML-DSA-65", "{}"),
		"an alg to come":    signed("SLH-DSA-SHA2-128s", "{}"),
		"x5c":               odd(`{"alg":"RS256","x5c":["AAAA"]}`),
		"jwk":               odd(`{"alg":"RS256","jwk":{"kty":"OKP"}}`),
		"crit":              odd(`{"alg":"RS256","crit":["x"],"x":1}`),
		"kid is a number":   odd(`{"alg":"RS256","kid":1}`),
		"encrypted":         encode([]byte(`{"alg":"RSA-OAEP-256","enc":"A256GCM"}`)) + ".YWJj.YWJj.YWJj.YWJj",
		"encrypted, direct": encode([]byte(`{"alg":"dir","enc":"A256GCM"}`)) + "..YWJj.YWJj.YWJj",
		"byte order mark":   "\ufeff" + signed("RS256", "{}") + "\r\n",
		"a NUL at its end":  signed("RS256", "{}") + "\x00",
	} {
		t.Run(name, func(t *testing.T) {
			credential := credtest.Load(t, Provider{}, map[string]any{"assertion_file": credtest.File(t, "assertion", []byte(jwt))})
			r := &plugins.Request{Form: url.Values{}, Header: http.Header{}}
			if err := credential.Authenticate(r); err != nil {
				t.Fatal(err)
			}
			if got := r.Form.Get("client_assertion"); got != strings.Trim(jwt, "\ufeff\r\n\x00") {
				t.Errorf("sent %q", got)
			}
		})
	}
}

// A clock that is a little ahead does not hold back an assertion that may still be good.
func TestLoadAroundTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(time.Minute)
		file := credtest.File(t, "assertion", []byte(signed("RS256", fmt.Sprintf(`{"exp":%d}`, end.Unix()))))
		source := credtest.Open(t, Provider{}, map[string]any{"assertion_file": file})
		<-time.After(time.Until(end) + time.Minute)
		if _, err := source.Load(t.Context()); err != nil {
			t.Errorf("within the leeway: %v", err)
		}
		<-time.After(time.Second)
		credtest.CheckFails(t, source, "it expired at")
	})
}

// The type of a JWT-SVID is another, for servers that take it as the client's identity by itself.
func TestAssertionTypes(t *testing.T) {
	file := credtest.File(t, "assertion", []byte(signed("ES256", `{"sub":"spiffe://example.org/web"}`)))
	for name, want := range map[string]string{
		"jwt_bearer": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
		"jwt_spiffe": "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
	} {
		r := &plugins.Request{Form: url.Values{}, Header: http.Header{}}
		credential := credtest.Load(t, Provider{}, map[string]any{"assertion_file": file, "assertion_type": name})
		if err := credential.Authenticate(r); err != nil || r.Form.Get("client_assertion_type") != want {
			t.Errorf("%s: form %v, %v", name, r.Form, err)
		}
	}
}

// A source hands out an assertion for each request, and keeps to the rules of a provider as a file does.
func TestConformanceOfASource(t *testing.T) {
	var questions atomic.Int64
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		fmt.Fprint(w, signed("RS256", fmt.Sprintf(`{"sub":"1","jti":"%d","exp":%d}`, questions.Add(1), time.Now().Add(time.Hour).Unix())))
	}))
	t.Cleanup(platform.Close)
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(platform.URL, "http://"))
	config := map[string]any{"source": map[string]any{"gcp": map[string]any{}}, "audience": "https://login.example.com"}
	plugintest.Run(t, plugintest.Config{
		Provider: Provider{},
		Config:   config,
		Bad:      []map[string]any{{"source": map[string]any{"gcp": map[string]any{}}}},
		Secrets:  []string{signature},
	})
	before := questions.Load()
	source := credtest.Open(t, Provider{}, config)
	for range 2 {
		credential, err := source.Load(t.Context())
		if err != nil || !credential.NotAfter.IsZero() || credential.Identity != "1" {
			t.Errorf("credential %+v, %v", credential, err)
		}
	}
	if asked := questions.Load() - before; asked != 2 {
		t.Errorf("it was asked %d times", asked)
	}
}
