package pkcs11cred

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credtest"
	"github.com/credagent/credagent/plugins/providerpb"
)

// The keys sign assertions, whose signatures are those of their algorithms.
func TestAssertions(t *testing.T) {
	h := newHSM(t, "rsa", "ec", "ec384", "ed25519")
	p, _ := h.provider(t)
	for _, tc := range []struct{ key, configured, alg string }{
		{"rsa", "", "PS256"}, {"rsa", "RS256", "RS256"}, {"ec", "", "ES256"}, {"ec384", "", "ES384"}, {"ed25519", "", "EdDSA"},
	} {
		t.Run(tc.alg, func(t *testing.T) {
			leaf := h.certify(t, p, tc.key, time.Hour)
			config := h.config(tc.key, map[string]any{"certificate_file": h.file(t, leaf)})
			if tc.configured != "" {
				config["signing_alg"] = tc.configured
			}
			credential := credtest.Load(t, p, config)
			if !credential.NotAfter.Equal(leaf.NotAfter) {
				t.Errorf("the credential ends at %s, want %s", credential.NotAfter, leaf.NotAfter)
			}
			r := &plugins.Request{ClientID: "app", TokenEndpoint: "https://login.example/token", Form: url.Values{}, Header: http.Header{}}
			for range 10 { // r and s of ECDSA are now and then short
				if err := credential.Authenticate(r); err != nil {
					t.Fatal(err)
				}
				parsed, err := jwt.ParseSigned(r.Form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(tc.alg)})
				if err != nil {
					t.Fatal(err)
				}
				var claims jwt.Claims
				if err := parsed.Claims(leaf.PublicKey, &claims); err != nil || claims.Subject != "app" {
					t.Errorf("claims %+v, %v", claims, err)
				}
			}
		})
	}
}

// The keys authenticate TLS connections, of both versions and whatever hash the server picks.
func TestTLS(t *testing.T) {
	h := newHSM(t, "rsa", "ec", "ec384", "ed25519")
	p, _ := h.provider(t)
	client := credtest.Serve(t, p)
	for key := range keys {
		leaf := h.certify(t, p, key, time.Hour)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(key+", "+tls.VersionName(version), func(t *testing.T) {
				server, shown := serveTLS(t, version)
				reply, err := client.Exchange(t.Context(), &providerpb.ExchangeRequest{
					TokenEndpoint: server.URL, ClientId: "app", TimeoutMilliseconds: 10_000,
					TrustRoots: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
					Config:     credtest.Config(t, h.config(key, map[string]any{"certificate_file": h.file(t, leaf), "auth_method": "self_signed_tls_client_auth"})),
				})
				if err != nil || reply.GetAnswer().GetStatus() != http.StatusOK {
					t.Fatal(reply, err)
				}
				if !leaf.Equal(*shown) {
					t.Error("the server was shown another certificate")
				}
			})
		}
	}
}

func serveTLS(t *testing.T, version uint16) (server *httptest.Server, shown **x509.Certificate) {
	t.Helper()
	shown = new(*x509.Certificate)
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*shown = r.TLS.PeerCertificates[0]
		fmt.Fprint(w, "{}")
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: version, MaxVersion: version}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, shown
}

// Every way in which a TLS server may want a signature is known.
func TestSignersOptions(t *testing.T) {
	h := newHSM(t, "rsa", "ec", "ec384")
	p, _ := h.provider(t)
	for key, options := range map[string][]crypto.SignerOpts{
		"rsa": {
			crypto.SHA256, crypto.SHA384, crypto.SHA512,
			&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA384},
			&rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256},
			&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA512},
		},
		"ec":    {crypto.SHA256, crypto.SHA384, crypto.SHA512},
		"ec384": {crypto.SHA256, crypto.SHA384, crypto.SHA512},
	} {
		k := signer{credtest.Open(t, p, h.config(key, nil)).(source), h.public(t, p, key)}
		for _, o := range options {
			digest := make([]byte, o.HashFunc().Size())
			_, _ = rand.Read(digest)
			signature, err := k.Sign(nil, digest, o)
			if err != nil || !verifies(k.public, digest, signature, o) {
				t.Errorf("%s does not sign with %+v: %v", key, o, err)
			}
		}
	}
	k := signer{credtest.Open(t, p, h.config("rsa", nil)).(source), h.public(t, p, "rsa")}
	if _, err := k.Sign(nil, make([]byte, 20), crypto.SHA1); err == nil {
		t.Error("the key signs with SHA-1")
	}
}

// TLS handshakes may sign beside a request: a token is asked one thing at a time.
func TestSigningAtOnce(t *testing.T) {
	h := newHSM(t, "ec")
	p, spy := h.provider(t)
	k := signer{credtest.Open(t, p, h.config("ec", nil)).(source), h.public(t, p, "ec")}
	var signing sync.WaitGroup
	for range 8 {
		signing.Go(func() {
			for range 20 {
				digest := make([]byte, 32)
				_, _ = rand.Read(digest)
				if _, err := k.Sign(nil, digest, crypto.SHA256); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	signing.Wait()
	if spy.sessions != 1 || spy.logins != 1 || spy.signatures != 160 {
		t.Errorf("%d sessions, %d logins, %d signatures", spy.sessions, spy.logins, spy.signatures)
	}
}
