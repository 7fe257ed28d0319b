package certcred

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credtest"
	"github.com/credagent/credagent/plugins/providerpb"
	"github.com/credagent/credagent/plugins/secretcred"
)

const (
	accountEmail = "orders@project.iam.gserviceaccount.com"
	accountURI   = "https://oauth2.example/token"
)

// keyFileJSON is a service account's key file with some values changed; nil takes one away.
func keyFileJSON(t *testing.T, changes map[string]any) []byte {
	t.Helper()
	values := map[string]any{
		"type": "service_account", "project_id": "project", "private_key_id": "0a1b2c", "client_email": accountEmail, "client_id": "1000000001",
		"private_key": string(keyPEM(t, credtest.Shared().Leaves["RSA"].Key, "PRIVATE KEY")), "token_uri": accountURI, "universe_domain": "googleapis.com",
	}
	for name, value := range changes {
		if values[name] = value; value == nil {
			delete(values, name)
		}
	}
	data, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGoogleKeyFile(t *testing.T) {
	escaped := []byte(strings.ReplaceAll(string(keyFileJSON(t, nil)), "=", `\u003d`)) // as Google writes it
	for name, tc := range map[string]struct {
		file     []byte
		clientID string
		aud      string
	}{
		"as it comes":        {escaped, accountEmail, accountURI},
		"by the number":      {keyFileJSON(t, nil), "1000000001", accountURI},
		"with a mark":        {append([]byte("\ufeff"), keyFileJSON(t, nil)...), accountEmail, accountURI},
		"without token_uri":  {keyFileJSON(t, map[string]any{"token_uri": nil}), accountEmail, "https://login.example/token"},
		"on one line, moved": {[]byte(strings.ReplaceAll(string(keyFileJSON(t, nil)), "\n", " ")), accountEmail, accountURI},
	} {
		t.Run(name, func(t *testing.T) {
			credential := credtest.Load(t, Provider{}, map[string]any{"google_key_file": credtest.File(t, "key.json", tc.file)})
			r := &plugins.Request{ClientID: tc.clientID, TokenEndpoint: "https://login.example/token", Form: url.Values{"client_id": {tc.clientID}, "scope": {"s t"}}, Header: http.Header{}}
			signed, err := credential.Sign(r, plugins.Assertion{Scopes: []string{"s", "t"}})
			if err != nil {
				t.Fatal(err)
			}
			if err := credential.Authenticate(r); err != nil || len(r.Form) != 0 || len(r.Header) != 0 {
				t.Errorf("form %v, header %v: %v", r.Form, r.Header, err)
			}
			parsed, err := jwt.ParseSigned(signed, []jose.SignatureAlgorithm{jose.RS256})
			if err != nil {
				t.Fatal(err)
			}
			claims := map[string]any{}
			if err := parsed.Claims(credtest.Shared().Leaves["RSA"].Key.Public(), &claims); err != nil {
				t.Fatal(err)
			}
			if claims["iss"] != accountEmail || claims["aud"] != tc.aud || claims["scope"] != "s t" || claims["sub"] != nil || parsed.Headers[0].KeyID != "0a1b2c" {
				t.Errorf("claims %v, header %+v", claims, parsed.Headers[0])
			}
		})
	}
}

func TestBadGoogleKeyFiles(t *testing.T) {
	whole := keyFileJSON(t, nil)
	key := keyPEM(t, credtest.Shared().Leaves["RSA"].Key, "PRIVATE KEY")
	const refreshToken = "1//0refresh-token-of-a-user"
	for name, tc := range map[string]struct{ file, want string }{
		"cut off":          {string(whole[:len(whole)/2]), "its JSON is damaged"},
		"HTML":             {"<!DOCTYPE html><html>" + string(key) + "</html>", "it is HTML or XML"},
		"PEM":              {string(key), "it is PEM and not Google's JSON; name a key alone in private_key_file"},
		"text":             {"ya29.something-else-altogether", "it is not the JSON object"},
		"a list":           {"[]", "it is not the JSON object"},
		"wrong type":       {`{"type": 7, "private_key": "abcdefghijklmnop"}`, "its JSON is damaged, such as cut off, or a value in it is of the wrong type"},
		"no type":          {`{}`, "its type is not service_account"},
		"of a user":        {`{"type": "authorized_user", "refresh_token": "` + refreshToken + `"}`, "it is of a user (authorized_user)"},
		"federation":       {`{"type": "external_account", "audience": "//iam.googleapis.com/x"}`, "grant token_exchange"},
		"impersonation":    {`{"type": "impersonated_service_account"}`, "it is of type impersonated_service_account"},
		"of an OAuth app":  {`{"installed": {"client_secret": "` + refreshToken + `"}}`, "it is of an OAuth client"},
		"without the key":  {string(keyFileJSON(t, map[string]any{"private_key": nil})), "client_email, private_key_id or private_key is missing"},
		"without email":    {string(keyFileJSON(t, map[string]any{"client_email": ""})), "client_email, private_key_id or private_key is missing"},
		"damaged key":      {string(keyFileJSON(t, map[string]any{"private_key": strings.Replace(string(key), "MII", "!!!", 1)})), "its private_key is damaged"},
		"key is elsewhere": {string(keyFileJSON(t, map[string]any{"private_key": "/etc/credagent/google.key"})), "its private_key is damaged"},
		"weak key":         {string(keyFileJSON(t, map[string]any{"private_key": string(keyPEM(t, credtest.Shared().Leaves["RSA 1024"].Key, "PRIVATE KEY"))})), "1024 bits"},
		"not RSA":          {string(keyFileJSON(t, map[string]any{"private_key": string(keyPEM(t, credtest.Shared().Leaves["P-256"].Key, "PRIVATE KEY"))})), "signing_alg RS256 does not fit the key"},
	} {
		t.Run(name, func(t *testing.T) {
			source := credtest.Open(t, Provider{}, map[string]any{"google_key_file": credtest.File(t, "key.json", []byte(tc.file))})
			credtest.CheckFails(t, source, tc.want, key, []byte(refreshToken))
		})
	}
}

func TestGoogleKeyOfAnotherAccount(t *testing.T) {
	credential := credtest.Load(t, Provider{}, map[string]any{"google_key_file": credtest.File(t, "key.json", keyFileJSON(t, nil))})
	r := &plugins.Request{ClientID: "other@project", TokenEndpoint: accountURI, Form: url.Values{}}
	if _, err := credential.Sign(r, plugins.Assertion{}); err == nil || !strings.Contains(err.Error(), `the client's client_id is "other@project"`) {
		t.Errorf("error %v", err)
	}
}

// A request for a grant has its assertion and, where it is configured, the client's secret beside it.
func TestGrantOverTheProtocol(t *testing.T) {
	var form url.Values
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		form = r.PostForm
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant","got":"` + form.Get("assertion") + form.Get("client_secret") + `"}`))
	}))
	defer server.Close()
	const clientSecret = "beside-the-grant-4711"
	config := map[string]any{
		"private_key_file": credtest.File(t, "key", keyPEM(t, credtest.Shared().Leaves["RSA"].Key, "PRIVATE KEY")), "signing_alg": "RS256",
		"auth_method": "client_secret_post", "secret_file": credtest.File(t, "secret", []byte(clientSecret)),
	}
	ask := func(p plugins.Provider, config map[string]any, grant *providerpb.Grant) *providerpb.ExchangeReply {
		reply, err := credtest.Serve(t, p).Grant(t.Context(), &providerpb.GrantRequest{Grant: grant, Exchange: &providerpb.ExchangeRequest{
			TokenEndpoint: server.URL, ClientId: "app", TimeoutMilliseconds: 10_000, Config: credtest.Config(t, config),
			Form: []*providerpb.Parameter{{Name: "grant_type", Value: "urn:ietf:params:oauth:grant-type:jwt-bearer"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	assertion := &providerpb.Grant{Part: &providerpb.Grant_Assertion{Assertion: &providerpb.Assertion{Subject: "user", Claims: []byte(`{"box_sub_type":"enterprise"}`)}}}
	reply := ask(Provider{}, config, assertion)
	if form.Get("client_secret") != clientSecret || form.Get("client_id") != "app" || len(strings.Split(form.Get("assertion"), ".")) != 3 {
		t.Fatalf("form %v, reply %v", form, reply)
	}
	if body := string(reply.GetAnswer().GetBody()); body != `{"error":"invalid_grant","got":"[redacted]"}` && body != `{"error":"invalid_grant","got":"[redacted][redacted]"}` {
		t.Errorf("body %s", body)
	}

	form = nil
	unable := map[string]any{"secret_file": config["secret_file"]}
	for name, reply := range map[string]*providerpb.ExchangeReply{
		"a provider that does not sign": ask(secretcred.Provider{}, unable, assertion),
		"a grant of a newer agent":      ask(Provider{}, config, &providerpb.Grant{}),
		"claims that are no object":     ask(Provider{}, config, &providerpb.Grant{Part: &providerpb.Grant_Assertion{Assertion: &providerpb.Assertion{Claims: []byte(`[]`)}}}),
	} {
		if reply.GetFailure() == nil || form != nil {
			t.Errorf("%s: reply %v, and the server got %v", name, reply, form)
		}
	}
}

func TestCheckGrant(t *testing.T) {
	google := credtest.Config(t, map[string]any{"google_key_file": "/g"})
	bare := credtest.Config(t, map[string]any{"private_key_file": "/k"})
	for name, tc := range map[string]struct {
		provider plugins.Provider
		config   []byte
		subject  string
		want     string // the problem's key
	}{
		"sound":                {Provider{}, bare, "user", ""},
		"no subject":           {Provider{}, bare, "", "subject"},
		"Google needs none":    {Provider{}, google, "", ""},
		"a secret cannot sign": {secretcred.Provider{}, credtest.Config(t, map[string]any{"secret_file": "/s"}), "user", "grant"},
		"unsound itself":       {Provider{}, []byte(`{}`), "user", ""}, // which Check reports
	} {
		t.Run(name, func(t *testing.T) {
			reply, err := credtest.Serve(t, tc.provider).CheckGrant(t.Context(), &providerpb.CheckGrantRequest{Config: tc.config, Grant: &providerpb.Grant{
				Part: &providerpb.Grant_Assertion{Assertion: &providerpb.Assertion{Subject: tc.subject}},
			}})
			got := ""
			if len(reply.GetProblems()) > 0 {
				got = reply.GetProblems()[0].GetKey()
			}
			if err != nil || got != tc.want {
				t.Errorf("problems %v, error %v; want one at %q", reply.GetProblems(), err, tc.want)
			}
		})
	}
}

// FuzzGoogleKeyFile looks for a file that makes the reader panic or quote it.
func FuzzGoogleKeyFile(f *testing.F) {
	for _, name := range []string{"service_account.json", "authorized_user.json", "external_account.json"} {
		data, err := os.ReadFile("testdata/google/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		whole := string(data)
		account, err := parseServiceAccount(data)
		if err == nil && (account.key == nil || account.email == "" || account.keyID == "") {
			t.Errorf("an account without its parts: %+v", account)
		}
		if err != nil && len(whole) > 40 && strings.Contains(err.Error(), whole) {
			t.Errorf("the error quotes the file: %v", err)
		}
	})
}
