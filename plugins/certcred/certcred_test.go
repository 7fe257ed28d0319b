package certcred

import (
	"crypto/sha1" //nolint:gosec // the x5t header is SHA-1 by definition
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credtest"
	"github.com/credagent/credagent/plugins/jwtcred"
	"github.com/credagent/credagent/plugins/providerpb"
)

// sign returns the assertion that a configuration makes for a request, verified with the
// certificate's public key.
func sign(t *testing.T, config map[string]any, kind string) (*jwt.JSONWebToken, jwt.Claims) {
	t.Helper()
	r := &plugins.Request{
		ClientID: "app", TokenEndpoint: "https://login.example/token", Issuer: "https://login.example",
		Form: url.Values{"client_id": {"app"}}, Header: http.Header{},
	}
	if err := credtest.Load(t, Provider{}, config).Authenticate(r); err != nil {
		t.Fatal(err)
	}
	if r.Form.Get("client_assertion_type") != jwtcred.AssertionType || r.Form.Get("client_id") != "app" || len(r.Header) != 0 || r.TLSCertificate != nil {
		t.Errorf("request %+v", r)
	}
	parsed, err := jwt.ParseSigned(r.Form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.PS256, jose.RS256, jose.ES256, jose.ES384, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.Claims
	if err := parsed.Claims(testAuthority().leaves[kind].chain[0].PublicKey, &claims); err != nil {
		t.Fatalf("verifying the assertion: %v", err)
	}
	return parsed, claims
}

func TestAssertionAlgorithms(t *testing.T) {
	for name, tc := range map[string]struct{ kind, configured, want string }{
		"RSA":                 {"RSA", "", "PS256"},
		"RSA, RS256":          {"RSA", "RS256", "RS256"},
		"RSA, PS256":          {"RSA", "PS256", "PS256"},
		"P-256":               {"P-256", "", "ES256"},
		"P-384":               {"P-384", "", "ES384"},
		"Ed25519":             {"Ed25519", "", "EdDSA"},
		"Ed25519, configured": {"Ed25519", "EdDSA", "EdDSA"},
	} {
		t.Run(name, func(t *testing.T) {
			config := pairFiles(t, tc.kind)
			if tc.configured != "" {
				config["signing_alg"] = tc.configured
			}
			parsed, _ := sign(t, config, tc.kind)
			if got := parsed.Headers[0].Algorithm; got != tc.want {
				t.Errorf("alg %s, want %s", got, tc.want)
			}
		})
	}
}

func TestAssertionHeader(t *testing.T) {
	chain := testAuthority().leaves["P-256"].chain
	sha256Sum, sha1Sum := sha256.Sum256(chain[0].Raw), sha1.Sum(chain[0].Raw) //nolint:gosec // see the import
	strong, weak := base64.RawURLEncoding.EncodeToString(sha256Sum[:]), base64.RawURLEncoding.EncodeToString(sha1Sum[:])
	for name, tc := range map[string]struct {
		config     map[string]any
		want       map[string]string
		x5c, extra bool
	}{
		"default":           {config: map[string]any{}, want: map[string]string{"x5t#S256": strong}},
		"SHA-1":             {config: map[string]any{"thumbprint": "sha1"}, want: map[string]string{"x5t": weak}},
		"none":              {config: map[string]any{"thumbprint": "none"}, want: map[string]string{}},
		"key id":            {config: map[string]any{"thumbprint": "none", "key_id": "k1"}, want: map[string]string{"kid": "k1"}},
		"key id beside":     {config: map[string]any{"key_id": "k1"}, want: map[string]string{"kid": "k1", "x5t#S256": strong}},
		"chain":             {config: map[string]any{"send_x5c": true}, want: map[string]string{"x5t#S256": strong}, x5c: true},
		"chain without sum": {config: map[string]any{"send_x5c": true, "thumbprint": "none"}, want: map[string]string{}, x5c: true},
	} {
		t.Run(name, func(t *testing.T) {
			config := pairFiles(t, "P-256")
			for key, value := range tc.config {
				config[key] = value
			}
			parsed, _ := sign(t, config, "P-256")
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
			sent, err := header.Certificates(x509.VerifyOptions{Roots: rootPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			if tc.x5c != (err == nil) || tc.x5c && !sent[0][0].Equal(chain[0]) {
				t.Errorf("x5c gives %v, %v", sent, err)
			}
		})
	}
}

func rootPool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(testAuthority().root)
	return pool
}

func TestAssertionClaims(t *testing.T) {
	for name, tc := range map[string]struct {
		audience, lifetime string
		wantAudience       string
		wantLife           time.Duration
	}{
		"default":        {wantAudience: "https://login.example/token", wantLife: 5 * time.Minute},
		"token endpoint": {audience: "token_endpoint", wantAudience: "https://login.example/token", wantLife: 5 * time.Minute},
		"issuer":         {audience: "issuer", wantAudience: "https://login.example", wantLife: 5 * time.Minute},
		"literal":        {audience: "urn:a:b", lifetime: "10m", wantAudience: "urn:a:b", wantLife: 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			config := pairFiles(t, "P-256")
			if tc.audience != "" {
				config["assertion_audience"] = tc.audience
			}
			if tc.lifetime != "" {
				config["assertion_lifetime"] = tc.lifetime
			}
			synctest.Test(t, func(t *testing.T) {
				_, claims := sign(t, config, "P-256")
				now := time.Now()
				if claims.Issuer != "app" || claims.Subject != "app" || len(claims.Audience) != 1 || claims.Audience[0] != tc.wantAudience {
					t.Errorf("claims %+v", claims)
				}
				if !claims.IssuedAt.Time().Equal(now) || !claims.NotBefore.Time().Equal(now) || !claims.Expiry.Time().Equal(now.Add(tc.wantLife)) {
					t.Errorf("claims %+v at %s", claims, now)
				}
				_, second := sign(t, config, "P-256")
				if claims.ID == "" || claims.ID == second.ID {
					t.Errorf("jti %q, then %q", claims.ID, second.ID)
				}
			})
		})
	}
	t.Run("issuer unknown", func(t *testing.T) {
		credential := credtest.Load(t, Provider{}, with(pairFiles(t, "P-256"), "assertion_audience", "issuer"))
		r := &plugins.Request{TokenEndpoint: "https://login.example/token", Form: url.Values{}, Header: http.Header{}}
		err := credential.Authenticate(r)
		if err == nil || !strings.Contains(err.Error(), "this client has none; configure issuer") || len(r.Form) != 0 {
			t.Errorf("error %v, form %v", err, r.Form)
		}
	})
}

func TestCredentialIsDescribed(t *testing.T) {
	leaf := testAuthority().leaves["RSA"].chain[0]
	credential := credtest.Load(t, Provider{}, pairFiles(t, "RSA"))
	if want := fmt.Sprintf("sha256:%X", sha256.Sum256(leaf.Raw)); credential.Identity != want || !credential.NotAfter.Equal(leaf.NotAfter) {
		t.Errorf("credential %+v, want %s", credential, want)
	}
}

// tokenServer is a TLS server that remembers how the last request was authenticated.
type tokenServer struct {
	*httptest.Server
	form url.Values
	peer []*x509.Certificate
}

func serveTLS(t *testing.T, clientAuth tls.ClientAuthType, version uint16) *tokenServer {
	t.Helper()
	s := &tokenServer{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		s.form, s.peer = r.PostForm, r.TLS.PeerCertificates
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":"invalid_client","got":%q}`, r.PostForm.Get("client_assertion"))
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{ClientAuth: clientAuth, ClientCAs: rootPool(), MinVersion: version, MaxVersion: version}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *tokenServer) request(t *testing.T, config map[string]any) *providerpb.ExchangeRequest {
	t.Helper()
	return &providerpb.ExchangeRequest{
		TokenEndpoint: s.URL + "/token", ClientId: "app", TimeoutMilliseconds: 10_000,
		TrustRoots: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
		Config:     credtest.Config(t, config),
	}
}

func TestTLSClientAuthentication(t *testing.T) {
	self := mustKey("P-256")
	selfSigned := files(t, certPEM(issue("self", self, nil, self)), keyPEM(t, self, "PRIVATE KEY"))
	for version, name := range map[uint16]string{tls.VersionTLS12: "TLS 1.2", tls.VersionTLS13: "TLS 1.3"} {
		t.Run(name, func(t *testing.T) {
			plain, strict := serveTLS(t, tls.NoClientCert, version), serveTLS(t, tls.RequireAndVerifyClientCert, version)
			in := strict.request(t, with(pairFiles(t, "RSA"), "auth_method", "tls_client_auth"))
			in.TokenEndpoint, in.MtlsTokenEndpoint = plain.URL, strict.URL+"/mtls"
			in.TrustRoots = append(in.TrustRoots, plain.request(t, nil).GetTrustRoots()...)
			reply, err := credtest.Serve(t, Provider{}).Exchange(t.Context(), in)
			if err != nil || reply.GetAnswer().GetStatus() != http.StatusBadRequest {
				t.Fatal(reply, err)
			}
			if len(strict.peer) != 3 || !strict.peer[0].Equal(testAuthority().leaves["RSA"].chain[0]) || plain.form != nil {
				t.Errorf("%d certificates; the other server got %v", len(strict.peer), plain.form)
			}
			if strict.form.Encode() != "client_id=app" {
				t.Errorf("form %v", strict.form)
			}

			// The server's list of issuers does not name the self-signed certificate.
			lax := serveTLS(t, tls.RequireAnyClientCert, version)
			in = lax.request(t, with(selfSigned, "auth_method", "self_signed_tls_client_auth"))
			if reply, err := credtest.Serve(t, Provider{}).Exchange(t.Context(), in); err != nil || reply.GetAnswer() == nil || len(lax.peer) != 1 {
				t.Errorf("%v, %v", reply, err)
			}
		})
	}
}

// A rotated pair is used at once, on a connection of its own; half a rotation sends nothing.
func TestRotation(t *testing.T) {
	s := serveTLS(t, tls.RequireAnyClientCert, tls.VersionTLS13)
	config := with(pairFiles(t, "P-256"), "auth_method", "tls_client_auth")
	client := credtest.Serve(t, Provider{})
	ask := func() *providerpb.ExchangeReply {
		reply, err := client.Exchange(t.Context(), s.request(t, config))
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	write := func(key string, data []byte) {
		if err := os.WriteFile(config[key].(string), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	next := testAuthority().leaves["P-384"]
	first := ask()
	write("certificate_file", certPEM(next.chain...))
	s.peer = nil
	if half := ask(); half.GetFailure().GetKind() != providerpb.Failure_KIND_CREDENTIAL || s.peer != nil {
		t.Errorf("half a rotation gave %v", half)
	}
	write("private_key_file", keyPEM(t, next.key, "PRIVATE KEY"))
	second := ask()
	if first.GetAnswer() == nil || second.GetAnswer() == nil || !s.peer[0].Equal(next.chain[0]) || first.GetCredential().GetIdentity() == second.GetCredential().GetIdentity() {
		t.Errorf("first %v, second %v", first, second)
	}
}

// The server repeats the assertion; the agent does not get it.
func TestAssertionStaysInTheProcess(t *testing.T) {
	s := serveTLS(t, tls.NoClientCert, tls.VersionTLS13)
	reply, err := credtest.Serve(t, Provider{}).Exchange(t.Context(), s.request(t, pairFiles(t, "P-256")))
	if err != nil {
		t.Fatal(err)
	}
	if body := string(reply.GetAnswer().GetBody()); body != `{"error":"invalid_client","got":"[redacted]"}` {
		t.Errorf("body %s", body)
	}
	credtest.CheckHidden(t, reply.String(), []byte(s.form.Get("client_assertion")))
}
