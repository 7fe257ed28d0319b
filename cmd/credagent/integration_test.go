//go:build unix

package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/testkit/oidctest"
)

// certified is a world of one certified authorization server and its clients, each of which
// authenticates in its own way, with files in a directory.
type certified struct {
	dir     string
	secret  string
	root    *x509.Certificate
	rootKey crypto.Signer
	clients []oidctest.Client
	config  map[string]string // client → its credential
}

// newCertified registers a client for each way of authenticating with each kind of key. Those that
// authenticate by TLS get certificate-bound tokens.
func newCertified(t *testing.T) *certified {
	t.Helper()
	c := &certified{dir: t.TempDir(), secret: randomHex(t), config: map[string]string{}}
	c.root, c.rootKey = c.issue(t, "root", devserver.KeyEC, nil)
	c.root = sign(t, "root", c.root.PublicKey, nil, c.rootKey)
	write(t, c.path("secret"), []byte(c.secret))
	c.add(oidctest.SecretBasic("basic", c.secret), "secretcred", "secret_file: "+c.path("secret"))
	c.add(oidctest.SecretPost("post", c.secret), "secretcred", "auth_method: client_secret_post, secret_file: "+c.path("secret"))
	for _, kind := range []struct {
		name devserver.KeyKind
		algs []string // the first is the default
	}{
		{devserver.KeyRSA, []string{"PS256", "RS256"}},
		{devserver.KeyEC, []string{"ES256"}},
		{devserver.KeyEC384, []string{"ES384"}},
		{devserver.KeyEd25519, []string{"EdDSA"}},
	} {
		self, chain := "self-"+string(kind.name), "issued-"+string(kind.name)
		registered, _ := c.issue(t, self, kind.name, nil)
		issued, _ := c.issue(t, chain, kind.name, c.root)
		for i, alg := range kind.algs {
			more := ""
			if i > 0 {
				more = ", signing_alg: " + alg
			}
			c.add(oidctest.PrivateKeyJWT(alg, alg, registered), "certcred", c.pair(self)+more)
		}
		c.addBound(oidctest.SelfSignedTLSClientAuth(self, registered), "self_signed_tls_client_auth")
		c.addBound(oidctest.TLSClientAuth(chain, issued), "tls_client_auth")
	}
	issuer, _ := c.issue(t, "issuer", devserver.KeyEC, nil)
	c.add(oidctest.PrivateKeyJWT("issuer", "ES256", issuer), "certcred", c.pair("issuer")+", assertion_audience: issuer, send_x5c: true, thumbprint: sha1")
	return c
}

func (c *certified) path(name string) string { return filepath.Join(c.dir, name) }

func (c *certified) pair(name string) string {
	return fmt.Sprintf("certificate_file: %[1]s.pem, private_key_file: %[1]s.key", c.path(name))
}

func (c *certified) add(client oidctest.Client, provider, config string) {
	c.clients = append(c.clients, client)
	c.config[client.ID] = fmt.Sprintf("{ provider: %s, config: { %s } }", provider, config)
}

func (c *certified) addBound(client oidctest.Client, method string) {
	client.CertificateBound = true
	c.add(client, "certcred", c.pair(client.ID)+", auth_method: "+method)
}

// issue makes NAME.pem and NAME.key. Without an issuer the certificate is its own; else it is made
// by an intermediate under the issuer, which only NAME.pem tells the server about.
func (c *certified) issue(t *testing.T, name string, kind devserver.KeyKind, issuer *x509.Certificate) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	certificates, encoded, certificate, err := devserver.NewCertificate(name, kind, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(encoded)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if issuer != nil {
		middle, middleKey := c.issue(t, "middle", devserver.KeyEC, nil)
		middle = sign(t, "middle", middle.PublicKey, issuer, c.rootKey)
		certificate = sign(t, name, certificate.PublicKey, middle, middleKey)
		certificates = append(toPEM(middle), toPEM(certificate)...)
	}
	write(t, c.path(name+".pem"), certificates)
	write(t, c.path(name+".key"), encoded)
	return certificate, key.(crypto.Signer)
}

// sign makes a certificate; one without an issuer is its own.
func sign(t *testing.T, name string, public crypto.PublicKey, issuer *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: name == "root" || name == "middle",
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if issuer == nil {
		issuer = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, public, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func toPEM(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}

// configure writes a configuration with a token and a sink for each of the clients.
func (c *certified) configure(t *testing.T, server *oidctest.Server, credentials map[string]string) string {
	t.Helper()
	var clients, tokens, sinks bytes.Buffer
	for name, credential := range credentials {
		fmt.Fprintf(&clients, "  %s: { issuer: %q, client_id: %s, ca_file: %s, credential: %s }\n", name, server.Issuer, name, server.CAFile, credential)
		fmt.Fprintf(&tokens, "  %s: { client: %s, scopes: [read] }\n", name, name)
		fmt.Fprintf(&sinks, "  - { type: file, token: %s, path: %s, format: json }\n", name, c.path(name+".token"))
	}
	file := c.path("credagent.yaml")
	write(t, file, fmt.Appendf(nil, "listen: \"\"\nclients:\n%stokens:\n%ssinks:\n%s", &clients, &tokens, &sinks))
	return file
}

// TestOIDCProvider runs `credagent once` against a certified authorization server, once with each
// way of client authentication and each kind of key, and has the server introspect every token
// that is on disk.
func TestOIDCProvider(t *testing.T) {
	for name, tc := range map[string]struct {
		version uint16
		options []oidctest.Option
	}{
		"TLS 1.2 at one endpoint":  {version: tls.VersionTLS12},
		"TLS 1.3 with an endpoint": {tls.VersionTLS13, []oidctest.Option{oidctest.WithMTLSAlias()}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCertified(t)
			server := oidctest.Start(t, c.clients, append(tc.options, oidctest.WithTTL(5*time.Minute), oidctest.WithTLS(tc.version), oidctest.WithClientRoots(c.root))...)
			var stdout, stderr bytes.Buffer
			if code := runSelf(t, &stdout, &stderr, "once", "-c", c.configure(t, server, c.config), "--timeout", "60s"); code != exitOK {
				t.Fatalf("once exited with %d: %s", code, &stderr)
			}
			for _, client := range c.clients {
				c.checkToken(t, server, client)
			}
			c.checkRequests(t, server, tc.version)
			if bytes.Contains(stderr.Bytes(), []byte(c.secret)) {
				t.Error("the log shows the client secret")
			}
		})
	}
}

// checkToken has the server say whose the token on disk is, and which certificate it is bound to.
func (c *certified) checkToken(t *testing.T, server *oidctest.Server, client oidctest.Client) {
	t.Helper()
	data, err := os.ReadFile(c.path(client.ID + ".token"))
	if err != nil {
		t.Fatal(err)
	}
	var token struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
	}
	if err := json.Unmarshal(data, &token); err != nil {
		t.Fatal(err)
	}
	about := server.Introspect(t, token.AccessToken)
	if about["active"] != true || about["client_id"] != client.ID || token.TokenType != "Bearer" {
		t.Errorf("%s: the server says of the %s token on disk: %v", client.ID, token.TokenType, about)
	}
	bound, _ := about["cnf"].(map[string]any)
	if got, want := fmt.Sprint(bound["x5t#S256"]), c.thumbprint(t, client); client.CertificateBound && got != want || !client.CertificateBound && bound != nil {
		t.Errorf("%s: the token is bound to %v, want %s", client.ID, bound, want)
	}
}

// thumbprint is of the client's own certificate, which is the last one in its file (RFC 8705, 3.1).
func (c *certified) thumbprint(t *testing.T, client oidctest.Client) string {
	t.Helper()
	if !client.CertificateBound {
		return ""
	}
	data, err := os.ReadFile(c.path(client.ID + ".pem"))
	if err != nil {
		t.Fatal(err)
	}
	var last []byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		last = block.Bytes
	}
	sum := sha256.Sum256(last)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// checkRequests checks that each token took one request, and that a certificate was shown where it
// authenticates, at the endpoint that is for it, and nowhere else.
func (c *certified) checkRequests(t *testing.T, server *oidctest.Server, version uint16) {
	t.Helper()
	requests := server.Requests(t)
	if len(requests) != len(c.clients) {
		t.Errorf("%d token requests for %d tokens", len(requests), len(c.clients))
	}
	for _, r := range requests {
		endpoint, byTLS := server.TokenURL, strings.Contains(c.config[r.ClientID], "tls_client_auth")
		if byTLS {
			endpoint = server.MTLSTokenURL
		}
		at, err := url.Parse(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if r.Certificate != byTLS || strconv.Itoa(r.Port) != at.Port() || strings.Replace(r.TLS, "TLSv", "TLS ", 1) != tls.VersionName(version) {
			t.Errorf("request %+v, want it over %s at %s", r, tls.VersionName(version), endpoint)
		}
	}
}

// A certificate that is not the client's is the server's to refuse, after one request.
func TestOIDCProviderRefusesAnotherCertificate(t *testing.T) {
	c := newCertified(t)
	server := oidctest.Start(t, c.clients, oidctest.WithMTLSAlias(), oidctest.WithClientRoots(c.root))
	stranger, _ := c.issue(t, "stranger", devserver.KeyEC, nil)
	for _, method := range []string{"self_signed_tls_client_auth", "tls_client_auth"} {
		id := map[string]string{"self_signed_tls_client_auth": "self-ec", "tls_client_auth": "issued-ec"}[method]
		credential := fmt.Sprintf("{ provider: certcred, config: { %s, auth_method: %s } }", c.pair("stranger"), method)
		var stdout, stderr bytes.Buffer
		code := runSelf(t, &stdout, &stderr, "once", "-c", c.configure(t, server, map[string]string{id: credential}), "--timeout", "60s")
		if code != exitRefused || !strings.Contains(stderr.String(), "invalid_client (401)") {
			t.Errorf("%s: once with the certificate of %s exited with %d: %s", method, stranger.Subject, code, &stderr)
		}
	}
	if requests := server.Requests(t); len(requests) != 2 || !requests[0].Certificate || !requests[1].Certificate {
		t.Errorf("requests %+v, want two with a certificate", requests)
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func randomHex(t *testing.T) string {
	t.Helper()
	b := make([]byte, 20)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}
