package certauth

import (
	"crypto"
	"crypto/sha1" //nolint:gosec // the x5t header is SHA-1 by definition
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credtest"
)

func sharedPair(t *testing.T, kind string) Pair {
	t.Helper()
	leaf := credtest.Shared().Leaves[kind]
	p, err := NewPair(leaf.Key, leaf.Chain)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newRequest() *plugins.Request {
	return &plugins.Request{
		ClientID: "app", TokenEndpoint: "https://login.example/token", Issuer: "https://login.example",
		Form: url.Values{"client_id": {"app"}}, Header: http.Header{},
	}
}

// sign returns the assertion that a configuration makes for a request, verified with the
// certificate's public key.
func sign(t *testing.T, c Config, p Pair) (*jwt.JSONWebToken, jwt.Claims) {
	t.Helper()
	credential, err := c.Credential(p)
	if err != nil {
		t.Fatal(err)
	}
	r := newRequest()
	if err := credential.Authenticate(r); err != nil {
		t.Fatal(err)
	}
	if r.Form.Get("client_assertion_type") != assertionType || r.Form.Get("client_id") != "app" || len(r.Header) != 0 || r.TLSCertificate != nil {
		t.Errorf("request %+v", r)
	}
	parsed, err := jwt.ParseSigned(r.Form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.PS256, jose.RS256, jose.ES256, jose.ES384, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.Claims
	if err := parsed.Claims(PublicKey(p.Chain[0]), &claims); err != nil {
		t.Fatalf("verifying the assertion: %v", err)
	}
	return parsed, claims
}

func TestAssertionAlgorithms(t *testing.T) {
	for name, tc := range map[string]struct {
		kind       string
		configured jose.SignatureAlgorithm
		want       string
	}{
		"RSA":                 {"RSA", "", "PS256"},
		"RSA, RS256":          {"RSA", "RS256", "RS256"},
		"RSA, PS256":          {"RSA", "PS256", "PS256"},
		"P-256":               {"P-256", "", "ES256"},
		"P-384":               {"P-384", "", "ES384"},
		"Ed25519":             {"Ed25519", "", "EdDSA"},
		"Ed25519, configured": {"Ed25519", "EdDSA", "EdDSA"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Default()
			c.SigningAlg = tc.configured
			parsed, _ := sign(t, c, sharedPair(t, tc.kind))
			if got := parsed.Headers[0].Algorithm; got != tc.want {
				t.Errorf("alg %s, want %s", got, tc.want)
			}
		})
	}
}

func TestKeysThatDoNotFit(t *testing.T) {
	for name, tc := range map[string]struct {
		kind   string
		change func(*Config)
		want   string // "" where it does fit
	}{
		"P-521":              {"P-521", nil, "the key's curve is P-521, with which credagent signs no assertion; use P-256 or P-384, or TLS client authentication"},
		"P-521, TLS":         {"P-521", func(c *Config) { c.AuthMethod = methodTLS }, ""},
		"RS256 with EC":      {"P-256", func(c *Config) { c.SigningAlg = jose.RS256 }, "signing_alg RS256 does not fit the key, which can do [ES256]"},
		"ES384 with P-256":   {"P-256", func(c *Config) { c.SigningAlg = jose.ES384 }, "signing_alg ES384 does not fit the key, which can do [ES256]"},
		"ES256 with RSA":     {"RSA", func(c *Config) { c.SigningAlg = jose.ES256 }, "signing_alg ES256 does not fit the key, which can do [PS256 RS256]"},
		"PS256 with Ed25519": {"Ed25519", func(c *Config) { c.SigningAlg = jose.PS256 }, "signing_alg PS256 does not fit the key, which can do [EdDSA]"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Default()
			if tc.change != nil {
				tc.change(&c)
			}
			_, err := c.Credential(sharedPair(t, tc.kind))
			if tc.want == "" != (err == nil) || err != nil && err.Error() != tc.want {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestAssertionHeader(t *testing.T) {
	p := sharedPair(t, "P-256")
	sha256Sum, sha1Sum := sha256.Sum256(p.Chain[0].Raw), sha1.Sum(p.Chain[0].Raw) //nolint:gosec // see the import
	strong, weak := base64.RawURLEncoding.EncodeToString(sha256Sum[:]), base64.RawURLEncoding.EncodeToString(sha1Sum[:])
	for name, tc := range map[string]struct {
		thumbprint, keyID string
		x5c               bool
		want              map[string]string
	}{
		"default":           {thumbprint: "sha256", want: map[string]string{"x5t#S256": strong}},
		"SHA-1":             {thumbprint: "sha1", want: map[string]string{"x5t": weak}},
		"none":              {thumbprint: "none", want: map[string]string{}},
		"key id":            {thumbprint: "none", keyID: "k1", want: map[string]string{"kid": "k1"}},
		"key id beside":     {thumbprint: "sha256", keyID: "k1", want: map[string]string{"kid": "k1", "x5t#S256": strong}},
		"chain":             {thumbprint: "sha256", x5c: true, want: map[string]string{"x5t#S256": strong}},
		"chain without sum": {thumbprint: "none", x5c: true, want: map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			c := Default()
			c.Thumbprint, c.KeyID, c.SendX5C = tc.thumbprint, tc.keyID, tc.x5c
			parsed, _ := sign(t, c, p)
			header := parsed.Headers[0]
			got := map[string]string{}
			for _, key := range []jose.HeaderKey{"x5t", "x5t#S256"} {
				if value, ok := header.ExtraHeaders[key]; ok {
					got[string(key)] = fmt.Sprint(value)
				}
			}
			if header.KeyID != "" {
				got["kid"] = header.KeyID
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.want) || header.ExtraHeaders["typ"] != "JWT" {
				t.Errorf("header %+v, want %v", header, tc.want)
			}
			checkX5C(t, header, p, tc.x5c)
		})
	}
}

// checkX5C checks that the header holds the chain, from the leaf up to but without the root, with
// which a server that trusts the root can verify the leaf; or no chain at all.
func checkX5C(t *testing.T, header jose.Header, p Pair, wanted bool) {
	t.Helper()
	sent, err := header.Certificates(x509.VerifyOptions{Roots: credtest.RootPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if wanted != (err == nil) {
		t.Fatalf("x5c gives %v, %v", sent, err)
	}
	// Of three, the third is the server's own root.
	if wanted && (len(sent[0]) != 3 || !sent[0][0].Equal(p.Chain[0]) || !sent[0][1].Equal(p.Chain[1])) {
		t.Errorf("x5c gives %v", sent)
	}
}

func TestAssertionClaims(t *testing.T) {
	p := sharedPair(t, "P-256")
	for name, tc := range map[string]struct {
		audience     string
		lifetime     time.Duration
		wantAudience string
	}{
		"token endpoint": {"token_endpoint", 5 * time.Minute, "https://login.example/token"},
		"issuer":         {"issuer", 5 * time.Minute, "https://login.example"},
		"literal":        {"urn:a:b", 10 * time.Minute, "urn:a:b"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Default()
			c.AssertionAudience, c.AssertionLifetime = tc.audience, plugins.Duration(tc.lifetime)
			synctest.Test(t, func(t *testing.T) {
				_, claims := sign(t, c, p)
				now := time.Now()
				if claims.Issuer != "app" || claims.Subject != "app" || len(claims.Audience) != 1 || claims.Audience[0] != tc.wantAudience {
					t.Errorf("claims %+v", claims)
				}
				if begin := now.Add(-10 * time.Second); !claims.IssuedAt.Time().Equal(begin) || !claims.NotBefore.Time().Equal(begin) || !claims.Expiry.Time().Equal(now.Add(tc.lifetime)) {
					t.Errorf("claims %+v at %s", claims, now)
				}
				_, second := sign(t, c, p)
				if claims.ID == "" || claims.ID == second.ID {
					t.Errorf("jti %q, then %q", claims.ID, second.ID)
				}
			})
		})
	}
	if c := Default(); c.AssertionAudience != "token_endpoint" || time.Duration(c.AssertionLifetime) != 5*time.Minute {
		t.Errorf("default %+v", c)
	}
}

func TestAssertionWithoutIssuer(t *testing.T) {
	c := Default()
	c.AssertionAudience = audienceOfIssuer
	credential, err := c.Credential(sharedPair(t, "P-256"))
	if err != nil {
		t.Fatal(err)
	}
	r := &plugins.Request{TokenEndpoint: "https://login.example/token", Form: url.Values{}, Header: http.Header{}}
	err = credential.Authenticate(r)
	if err == nil || !strings.Contains(err.Error(), "this client has none; configure issuer") || len(r.Form) != 0 {
		t.Errorf("error %v, form %v", err, r.Form)
	}
}

func TestCredentialIsDescribed(t *testing.T) {
	p := sharedPair(t, "RSA")
	for _, method := range []string{methodPrivateKeyJWT, methodTLS, methodSelfSignedTLS} {
		c := Default()
		c.AuthMethod = method
		credential, err := c.Credential(p)
		if err != nil {
			t.Fatal(err)
		}
		leaf := p.Chain[0]
		want := fmt.Sprintf("sha256:%X", sha256.Sum256(leaf.Raw))
		if credential.Identity != want || !credential.NotAfter.Equal(leaf.NotAfter) || !credential.NotBefore.Equal(leaf.NotBefore) {
			t.Errorf("%s: credential %+v, want %s", method, credential, want)
		}
	}
}

// refusing is a key that does not sign.
type refusing struct {
	crypto.Signer
	err error
}

func (r refusing) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, r.err }

// Why a key does not sign is shown only where its owner says that it may be.
func TestSigningFails(t *testing.T) {
	for want, err := range map[string]error{
		"signing the assertion: the key refused":     errors.New("canary"),
		"signing the assertion: the token was taken": fmt.Errorf("canary: %w", &SignError{"the token was taken"}),
	} {
		p := sharedPair(t, "P-256")
		p.Key = refusing{p.Key, err}
		credential, loadErr := Default().Credential(p)
		if loadErr != nil {
			t.Fatal(loadErr)
		}
		r := newRequest()
		if got := credential.Authenticate(r); got == nil || got.Error() != want || r.Form.Has("client_assertion") {
			t.Errorf("error %v, want %q", got, want)
		}
	}
}
