package certauth

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credtest"
)

// signGrant returns the claims of the assertion that a configuration signs as a grant, and the request.
func signGrant(t *testing.T, c Config, p Pair, a plugins.Assertion) (*jwt.JSONWebToken, map[string]any, *plugins.Request) {
	t.Helper()
	credential, err := c.Credential(p)
	if err != nil {
		t.Fatal(err)
	}
	r := newRequest()
	r.Form.Set("scope", strings.Join(a.Scopes, " "))
	signed, err := credential.Sign(r, a)
	if err != nil {
		t.Fatal(err)
	}
	if err := credential.Authenticate(r); err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(signed, []jose.SignatureAlgorithm{jose.PS256, jose.RS256, jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{}
	if err := parsed.Claims(p.Key.Public(), &claims); err != nil {
		t.Fatalf("verifying the assertion: %v", err)
	}
	return parsed, claims, r
}

func TestAssertionAsGrant(t *testing.T) {
	bare, err := NewKey(credtest.Key("RSA"))
	if err != nil {
		t.Fatal(err)
	}
	asked := plugins.Assertion{Subject: "user@example.com", Scopes: []string{"a", "b"}, Claims: map[string]json.RawMessage{
		"box_sub_type": json.RawMessage(`"enterprise"`), "n": json.RawMessage(`7`), "iss": json.RawMessage(`"forged"`), "exp": json.RawMessage(`1`),
	}}
	for name, tc := range map[string]struct {
		change     func(*Config)
		asked      plugins.Assertion
		iss, scope string // the claims
		form       string
		kid        string
	}{
		"as the standard has it": {func(*Config) {}, asked, "app", "", "client_id=&scope=a b", ""},
		"with client_id":         {func(c *Config) { c.SendClientID = true }, asked, "app", "", "client_id=app&scope=a b", ""},
		"scopes as a claim":      {func(c *Config) { c.ScopeIn = ScopeInAssertion; c.KeyID = "k" }, asked, "app", "a b", "client_id=&scope=", "k"},
		"another issuer":         {func(c *Config) { c.Issuer = "account@project" }, asked, "account@project", "", "client_id=&scope=a b", ""},
		"no subject":             {func(c *Config) { c.SubjectOptional = true }, plugins.Assertion{}, "app", "", "client_id=&scope=", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := Default()
			c.AuthMethod = NoAuthentication
			tc.change(&c)
			parsed, claims, r := signGrant(t, c, bare, tc.asked)
			if got := "client_id=" + r.Form.Get("client_id") + "&scope=" + r.Form.Get("scope"); got != tc.form || r.Form.Has("client_assertion") {
				t.Errorf("form %v, want %s", r.Form, tc.form)
			}
			scope, _ := claims["scope"].(string)
			subject, _ := claims["sub"].(string)
			if claims["iss"] != tc.iss || scope != tc.scope || subject != tc.asked.Subject || claims["aud"] != "https://login.example/token" || claims["jti"] == "" {
				t.Errorf("claims %v", claims)
			}
			if tc.asked.Claims != nil && (claims["box_sub_type"] != "enterprise" || claims["n"] != 7.0) {
				t.Errorf("claims %v", claims)
			}
			if life := claims["exp"].(float64) - claims["iat"].(float64); life != (defaultLifetime + clockMargin).Seconds() {
				t.Errorf("the assertion lives for %v seconds", life)
			}
			if header := parsed.Headers[0]; header.KeyID != tc.kid || header.ExtraHeaders["x5t#S256"] != nil {
				t.Errorf("header %+v", header)
			}
		})
	}
}

// Some servers want the client to authenticate, too: two assertions, of which neither is the other's.
func TestGrantBesideClientAuthentication(t *testing.T) {
	p := sharedPair(t, "RSA")
	_, claims, r := signGrant(t, Default(), p, plugins.Assertion{Subject: "user"})
	parsed, err := jwt.ParseSigned(r.Form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.PS256})
	if err != nil {
		t.Fatal(err)
	}
	var own jwt.Claims
	if err := parsed.Claims(p.Key.Public(), &own); err != nil || own.Subject != "app" || claims["sub"] != "user" || own.ID == claims["jti"] {
		t.Errorf("client assertion %+v, grant %v: %v", own, claims, err)
	}
}

func TestCheckAssertion(t *testing.T) {
	inAssertion := Default()
	inAssertion.ScopeIn = ScopeInAssertion
	optional := Default()
	optional.SubjectOptional = true
	for name, tc := range map[string]struct {
		config Config
		asked  plugins.Assertion
		want   string // the key; "" for no problem
	}{
		"sound":               {Default(), plugins.Assertion{Subject: "u"}, ""},
		"no subject":          {Default(), plugins.Assertion{}, "subject"},
		"no subject, allowed": {optional, plugins.Assertion{}, ""},
		"two scopes":          {inAssertion, plugins.Assertion{Subject: "u", Scopes: []string{"a"}, Claims: map[string]json.RawMessage{"scope": json.RawMessage(`"b"`)}}, "assertion_claims.scope"},
		"a scope of its own":  {Default(), plugins.Assertion{Subject: "u", Scopes: []string{"a"}, Claims: map[string]json.RawMessage{"scope": json.RawMessage(`"b"`)}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.config.CheckAssertion(tc.asked)
			if got, _, _ := strings.Cut(errorText(err), ": "); got != tc.want {
				t.Errorf("error %v, want one at %q", err, tc.want)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A client that does not authenticate gets no token for client_credentials, so nothing is sent.
func TestNoAuthenticationIsForOtherGrants(t *testing.T) {
	c := Default()
	c.AuthMethod = NoAuthentication
	credential, err := c.Credential(sharedPair(t, "P-256"))
	if err != nil {
		t.Fatal(err)
	}
	r := newRequest()
	r.Form = url.Values{"grant_type": {"client_credentials"}}
	if err := credential.Authenticate(r); err == nil || !strings.HasPrefix(err.Error(), "auth_method: is none") {
		t.Errorf("error %v", err)
	}
}

func TestKeyAlone(t *testing.T) {
	if _, err := NewKey(credtest.Shared().Leaves["RSA 1024"].Key); err == nil || !strings.Contains(err.Error(), "1024 bits") {
		t.Errorf("a weak key: %v", err)
	}
	p, err := NewKey(credtest.Key("P-256"))
	if err != nil {
		t.Fatal(err)
	}
	credential, err := Default().Credential(p)
	if err != nil || !strings.HasPrefix(credential.Identity, "sha256:") || len(credential.Identity) != len("sha256:")+64 || !credential.NotAfter.IsZero() {
		t.Fatalf("%+v, %v", credential, err)
	}
	r := newRequest()
	if err := credential.Authenticate(r); err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(r.Form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.Claims
	if err := parsed.Claims(p.Key.Public(), &claims); err != nil || claims.Expiry.Time().Before(time.Now()) {
		t.Errorf("%+v, %v", claims, err)
	}
}
