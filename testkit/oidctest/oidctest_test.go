//go:build unix

package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestSecret(t *testing.T) {
	const secret = `s3cret: +&%/"`
	server := Start(t, []Client{
		SecretBasic("basic", secret),
		SecretPost("post", secret),
	}, WithTTL(90*time.Second), WithScopes("orders"))

	tests := []struct {
		name   string
		form   url.Values
		basic  []string
		status int
		error  string
	}{
		{name: "basic", basic: []string{"basic", secret}, status: http.StatusOK},
		{
			name:   "post",
			form:   url.Values{"client_id": {"post"}, "client_secret": {secret}},
			status: http.StatusOK,
		},
		{
			name:   "basic with a wrong secret",
			basic:  []string{"basic", "guess"},
			status: http.StatusUnauthorized, error: "invalid_client",
		},
		{
			name:   "post with a wrong secret",
			form:   url.Values{"client_id": {"post"}, "client_secret": {"guess"}},
			status: http.StatusUnauthorized, error: "invalid_client",
		},
		{
			name:   "an unknown client",
			basic:  []string{"stranger", "guess"},
			status: http.StatusUnauthorized, error: "invalid_client",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			form := url.Values{"scope": {"orders unheard-of"}}
			for name, values := range tt.form {
				form[name] = values
			}
			got := requestToken(t, newHTTPClient(t, server, nil), server, form, tt.basic...)
			if got.status != tt.status || got.Error != tt.error {
				t.Fatalf("got %d %q, want %d %q", got.status, got.Error, tt.status, tt.error)
			}
			if tt.error == "" {
				checkGrant(t, server, got)
			}
		})
	}
}

func checkGrant(t *testing.T, server *Server, got tokenAnswer) {
	t.Helper()
	if got.ExpiresIn != 90 || got.TokenType != "Bearer" || got.Scope != "orders" {
		t.Errorf("got expires_in %d, token_type %q, scope %q", got.ExpiresIn, got.TokenType, got.Scope)
	}
	if info := server.Introspect(t, got.AccessToken); info["active"] != true || info["scope"] != "orders" {
		t.Errorf("introspection says %v", info)
	}
	if info := server.Introspect(t, got.AccessToken+"x"); info["active"] != false {
		t.Errorf("introspection of a made-up token says %v", info)
	}
}

func TestRequests(t *testing.T) {
	server := Start(t, []Client{SecretBasic("known", "right")})
	client := newHTTPClient(t, server, nil)
	if got := server.Requests(t); len(got) != 0 {
		t.Errorf("before any request: %v", got)
	}
	token := requestToken(t, client, server, nil, "known", "right")
	requestToken(t, client, server, nil, "known", "wrong")
	requestToken(t, client, server, nil, "stranger", "wrong")
	server.Introspect(t, token.AccessToken)

	port := must(strconv.Atoi(must(url.Parse(server.TokenURL))(t).Port()))(t)
	want := []Request{
		{ClientID: "known", Status: http.StatusOK, TLS: "TLSv1.3", Port: port},
		{ClientID: "known", Status: http.StatusUnauthorized, TLS: "TLSv1.3", Port: port},
		{ClientID: "", Status: http.StatusUnauthorized, TLS: "TLSv1.3", Port: port},
	}
	if got := server.Requests(t); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestResources(t *testing.T) {
	server := Start(t, []Client{SecretBasic("client", "secret")})
	client := newHTTPClient(t, server, nil)
	tests := []struct {
		name     string
		resource string
		error    string
		dots     int // a JWT has two
	}{
		{name: "none"},
		{name: "opaque", resource: ResourceOpaque},
		{name: "JWT", resource: ResourceJWT, dots: 2},
		{name: "unknown", resource: "https://elsewhere.example.com", error: "invalid_target"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			form := url.Values{}
			if tt.resource != "" {
				form.Set("resource", tt.resource)
			}
			got := requestToken(t, client, server, form, "client", "secret")
			if got.Error != tt.error || (got.AccessToken == "") != (tt.error != "") {
				t.Fatalf("got error %q, want %q", got.Error, tt.error)
			}
			if dots := strings.Count(got.AccessToken, "."); dots != tt.dots {
				t.Errorf("the token has %d dots, want %d", dots, tt.dots)
			}
		})
	}
}

func TestRegistration(t *testing.T) {
	limited := SecretBasic("limited", "secret")
	limited.Scope = "read"
	barred := SecretBasic("barred", "secret")
	barred.GrantTypes = []string{}
	server := Start(t, []Client{limited, barred})
	client := newHTTPClient(t, server, nil)

	tests := []struct {
		name, client, scope, error string
	}{
		{name: "an allowed scope", client: "limited", scope: "read"},
		{name: "another scope", client: "limited", scope: "write", error: "invalid_scope"},
		{name: "no grant type", client: "barred", scope: "read", error: "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := requestToken(t, client, server, url.Values{"scope": {tt.scope}}, tt.client, "secret")
			if got.Error != tt.error {
				t.Errorf("got error %q, want %q", got.Error, tt.error)
			}
		})
	}
}

func TestPrivateKeyJWT(t *testing.T) {
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	p256 := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	withCert := selfSigned(t, "with certificate", p256)

	tests := []struct {
		name       string
		registered crypto.PublicKey
		signer     crypto.Signer
		alg        string
		status     int
	}{
		{"PS256", rsaKey.Public(), rsaKey, "PS256", http.StatusOK},
		{"RS256", rsaKey.Public(), rsaKey, "RS256", http.StatusOK},
		{"ES256", p256.Public(), p256, "ES256", http.StatusOK},
		{"ES384", p384.Public(), p384, "ES384", http.StatusOK},
		{"EdDSA", edKey.Public(), edKey, "EdDSA", http.StatusOK},
		{"a certificate", withCert, p256, "ES256", http.StatusOK},
		{"another's key", p256.Public(), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t), "ES256", http.StatusUnauthorized},
	}
	var clients []Client
	for _, tt := range tests {
		clients = append(clients, PrivateKeyJWT(tt.name, tt.alg, tt.registered))
	}
	server := Start(t, clients)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			form := url.Values{
				"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
				"client_assertion":      {assertion(t, tt.name, server.TokenURL, tt.alg, tt.signer)},
			}
			got := requestToken(t, newHTTPClient(t, server, nil), server, form)
			if got.status != tt.status {
				t.Fatalf("got %d %q, want %d", got.status, got.Error, tt.status)
			}
			if got.status == http.StatusOK && server.Introspect(t, got.AccessToken)["client_id"] != tt.name {
				t.Error("the token is not this client's")
			}
		})
	}
}

func TestTLSClientAuth(t *testing.T) {
	root, rootKey, err := newRoot()
	if err != nil {
		t.Fatal(err)
	}
	issued := issue(t, "issued", root, rootKey)
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	registered := tlsCertificate(selfSigned(t, "registered", key), key)
	forged := tlsCertificate(selfSigned(t, "issued", key), key)
	bound := SelfSignedTLSClientAuth("registered", registered.Leaf)
	bound.CertificateBound = true
	server := Start(t, []Client{TLSClientAuth("issued", issued.Leaf), bound}, WithClientRoots(root))

	tests := []struct {
		name   string
		client string
		cert   *tls.Certificate
		status int
	}{
		{"from the root", "issued", &issued, http.StatusOK},
		{"the same subject but self-signed", "issued", &forged, http.StatusUnauthorized},
		{"self-signed and registered", "registered", &registered, http.StatusOK},
		{"self-signed and not registered", "registered", &forged, http.StatusUnauthorized},
		{"no certificate", "issued", nil, http.StatusUnauthorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := newHTTPClient(t, server, tt.cert)
			got := requestToken(t, client, server, url.Values{"client_id": {tt.client}})
			if got.status != tt.status {
				t.Fatalf("got %d %q, want %d", got.status, got.Error, tt.status)
			}
			if got.status == http.StatusOK && tt.client == "registered" {
				checkBinding(t, server.Introspect(t, got.AccessToken), registered.Leaf)
			}
		})
	}
}

// With an alias, only the second port asks for certificates; a forced version of TLS is the only one.
func TestMTLSAlias(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	registered := tlsCertificate(selfSigned(t, "registered", key), key)
	server := Start(t, []Client{SelfSignedTLSClientAuth("registered", registered.Leaf)}, WithMTLSAlias(), WithTLS(tls.VersionTLS12))
	if server.MTLSTokenURL == server.TokenURL {
		t.Fatalf("the alias is %s itself", server.TokenURL)
	}
	alias := *server
	alias.TokenURL = server.MTLSTokenURL
	form := url.Values{"client_id": {"registered"}}
	for _, tt := range []struct {
		at     *Server
		status int
	}{{server, http.StatusUnauthorized}, {&alias, http.StatusOK}} {
		if got := requestToken(t, newHTTPClient(t, server, &registered), tt.at, form); got.status != tt.status {
			t.Errorf("%s answers %d, want %d", tt.at.TokenURL, got.status, tt.status)
		}
	}
	requests := server.Requests(t)
	if len(requests) != 2 || requests[0].Certificate || !requests[1].Certificate || requests[0].Port == requests[1].Port || requests[1].TLS != "TLSv1.2" {
		t.Errorf("requests %+v", requests)
	}
}

func checkBinding(t *testing.T, info map[string]any, cert *x509.Certificate) {
	t.Helper()
	sum := sha256.Sum256(cert.Raw)
	cnf, _ := info["cnf"].(map[string]any)
	if want := base64.RawURLEncoding.EncodeToString(sum[:]); cnf["x5t#S256"] != want {
		t.Errorf("the token is bound to %v, want the certificate %s", info["cnf"], want)
	}
}

func TestDiscovery(t *testing.T) {
	server := Start(t, nil)
	res, err := newHTTPClient(t, server, nil).Get(server.Issuer + "/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var metadata map[string]any
	if err := json.NewDecoder(res.Body).Decode(&metadata); err != nil {
		t.Fatal(err)
	}
	if metadata["issuer"] != server.Issuer || metadata["token_endpoint"] != server.TokenURL {
		t.Errorf("discovery says issuer %v, token_endpoint %v", metadata["issuer"], metadata["token_endpoint"])
	}
}

func TestStopsWithItsTest(t *testing.T) {
	var server *Server
	var client *http.Client
	t.Run("while it runs", func(t *testing.T) {
		server = Start(t, nil)
		client = newHTTPClient(t, server, nil)
	})
	if server == nil {
		t.SkipNow()
	}
	res, err := client.Get(server.Issuer)
	if err == nil {
		res.Body.Close()
		t.Errorf("%q still answers", server.Issuer)
	}
}

func TestRefusedRegistration(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	_, err := start(t, []Client{SecretBasic("no-secret", "")}, nil)
	if err == nil || !strings.Contains(err.Error(), `registering client "no-secret": client_secret is mandatory property`) {
		t.Errorf("got %v, want the server's reason", err)
	}
}

// tokenAnswer is an answer of the token endpoint (RFC 6749, 5).
type tokenAnswer struct {
	status      int
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
	Scope       string `json:"scope"`
	Error       string `json:"error"`
}

// requestToken asks for a token; basic, where given, is a client_id and its secret.
func requestToken(t *testing.T, client *http.Client, server *Server, form url.Values, basic ...string) tokenAnswer {
	t.Helper()
	body := url.Values{"grant_type": {"client_credentials"}}
	for name, values := range form {
		body[name] = values
	}
	req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, server.TokenURL, strings.NewReader(body.Encode())))(t)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if len(basic) == 2 {
		req.SetBasicAuth(url.QueryEscape(basic[0]), url.QueryEscape(basic[1]))
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer := tokenAnswer{status: res.StatusCode}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// newHTTPClient trusts the server by its CAFile and presents cert, if there is one, unless the
// server asks for certificates of other issuers only.
func newHTTPClient(t *testing.T, server *Server, cert *tls.Certificate) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(must(os.ReadFile(server.CAFile))(t)) {
		t.Fatalf("%q holds no certificate", server.CAFile)
	}
	config := &tls.Config{RootCAs: roots}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: requestLimit}
}

// assertion is a signed client assertion (RFC 7523, 3).
func assertion(t *testing.T, clientID, audience, alg string, key crypto.Signer) string {
	t.Helper()
	now := time.Now()
	input := encodeJSON(t, map[string]any{"alg": alg, "typ": "JWT"}) + "." + encodeJSON(t, map[string]any{
		"iss": clientID, "sub": clientID, "aud": audience, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	})
	return input + "." + base64.RawURLEncoding.EncodeToString(sign(t, alg, key, input))
}

func encodeJSON(t *testing.T, value any) string {
	t.Helper()
	return base64.RawURLEncoding.EncodeToString(must(json.Marshal(value))(t))
}

// sign makes the signature of a JWS (RFC 7518, 3).
func sign(t *testing.T, alg string, key crypto.Signer, input string) []byte {
	t.Helper()
	hash := crypto.SHA256
	if alg == "ES384" {
		hash = crypto.SHA384
	}
	h := hash.New()
	h.Write([]byte(input))
	sum := h.Sum(nil)
	switch k := key.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(k, []byte(input))
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, sum)
		if err != nil {
			t.Fatal(err)
		}
		signature := make([]byte, 2*hash.Size())
		r.FillBytes(signature[:hash.Size()])
		s.FillBytes(signature[hash.Size():])
		return signature
	}
	var opts crypto.SignerOpts = hash
	if alg == "PS256" {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	return must(key.Sign(rand.Reader, sum, opts))(t)
}

func selfSigned(t *testing.T, name string, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template := clientTemplate(name)
	return certify(t, template, template, key.Public(), key)
}

// issue makes a client certificate that the root vouches for.
func issue(t *testing.T, name string, root *x509.Certificate, rootKey *ecdsa.PrivateKey) tls.Certificate {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	return tlsCertificate(certify(t, clientTemplate(name), root, key.Public(), rootKey), key)
}

func clientTemplate(name string) *x509.Certificate {
	template := certificateTemplate(name, 3)
	template.Subject = pkix.Name{Organization: []string{"Example Works"}, Country: []string{"CH"}, CommonName: name}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return template
}

func certify(t *testing.T, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der := must(x509.CreateCertificate(rand.Reader, template, parent, pub, key))(t)
	return must(x509.ParseCertificate(der))(t)
}

func tlsCertificate(cert *x509.Certificate, key crypto.PrivateKey) tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// must returns a function that gives the value, or fails the test with the error.
func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
