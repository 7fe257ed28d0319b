package devserver_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

const (
	appID     = "app"
	appSecret = "s3cret canary+/%"
	assertURN = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

func appClient() devserver.Client {
	return devserver.Client{ID: appID, Secret: secret.New(appSecret)}
}

// start runs a server on loopback for the length of a test.
func start(t testing.TB, options devserver.Options) *devserver.Server {
	t.Helper()
	server, err := devserver.New(options)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// inMemory makes a server and a client of it that use no network, for synctest bubbles.
func inMemory(t testing.TB, options devserver.Options) (*devserver.Server, *http.Client) {
	t.Helper()
	server, err := devserver.New(options)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: server.DialContext}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server, &http.Client{Transport: transport}
}

// form is a good client_secret_post request, with changes; an empty value takes a parameter away.
func form(changes ...string) url.Values {
	values := url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {appID},
		"client_secret": {appSecret},
		"scope":         {"read"},
	}
	for i := 0; i < len(changes); i += 2 {
		values.Set(changes[i], changes[i+1])
		if changes[i+1] == "" {
			values.Del(changes[i])
		}
	}
	return values
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	fields map[string]any
}

func (r reply) text(name string) string {
	text, _ := r.fields[name].(string)
	return text
}

func newRequest(t testing.TB, target string, values url.Values) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(values.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return request
}

func do(client *http.Client, request *http.Request) (reply, error) {
	response, err := client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	answer := reply{status: response.StatusCode, header: response.Header, body: string(body)}
	_ = json.Unmarshal(body, &answer.fields)
	return answer, err
}

func mustDo(t testing.TB, client *http.Client, request *http.Request) reply {
	t.Helper()
	answer, err := do(client, request)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func mustPost(t testing.TB, target string, values url.Values) reply {
	t.Helper()
	return mustDo(t, http.DefaultClient, newRequest(t, target, values))
}

func mustGet(t testing.TB, client *http.Client, target, bearer string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	return mustDo(t, client, request)
}

func mustInject(t testing.TB, server *devserver.Server, text string) {
	t.Helper()
	fault, err := devserver.ParseFault(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Inject(fault); err != nil {
		t.Fatal(err)
	}
}

// lastRequest is the newest entry of the request log.
func lastRequest(t testing.TB, server *devserver.Server) devserver.Request {
	t.Helper()
	requests := server.Requests()
	if len(requests) == 0 {
		t.Fatal("the request log is empty")
	}
	return requests[len(requests)-1]
}

// pass lets time go by in a synctest bubble.
func pass(span time.Duration) { <-time.After(span) }

// keyPair is a client's certificate with its private key.
type keyPair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKeyPair(t testing.TB, kind devserver.KeyKind, life time.Duration) keyPair {
	t.Helper()
	_, keyPEM, cert, err := devserver.NewCertificate(appID, kind, life)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(keyPEM)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return keyPair{cert: cert, key: key.(crypto.Signer)}
}

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func thumbprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return b64(sum[:])
}

func thumbprintSHA1(cert *x509.Certificate) string {
	sum := sha1.Sum(cert.Raw)
	return b64(sum[:])
}

// members are the members of a JOSE header or of a claims set.
type members map[string]any

// with returns a copy with changes; nil takes a member away.
func (m members) with(changes members) members {
	changed := maps.Clone(m)
	for name, value := range changes {
		changed[name] = value
		if value == nil {
			delete(changed, name)
		}
	}
	return changed
}

func goodClaims(audience, id string) members {
	now := time.Now().Unix()
	return members{"iss": appID, "sub": appID, "aud": audience, "jti": id, "iat": now, "nbf": now, "exp": now + 300}
}

func signJWT(t testing.TB, key crypto.Signer, header, claims members) string {
	t.Helper()
	head, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed := b64(head) + "." + b64(body)
	alg, _ := header["alg"].(string)
	signature, err := signBytes(key, alg, []byte(signed))
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(signature)
}

func signBytes(key crypto.Signer, alg string, data []byte) ([]byte, error) {
	sum, long := sha256.Sum256(data), sha512.Sum384(data)
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if alg == "PS256" {
			return rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		digest := sum[:]
		if alg == "ES384" {
			digest = long[:]
		}
		return signEC(key, digest)
	case ed25519.PrivateKey:
		return ed25519.Sign(key, data), nil
	}
	return nil, fmt.Errorf("signing with a %T", key)
}

func signEC(key *ecdsa.PrivateKey, digest []byte) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		return nil, err
	}
	size := key.Curve.Params().BitSize / 8
	signature := make([]byte, 2*size)
	r.FillBytes(signature[:size])
	s.FillBytes(signature[size:])
	return signature, nil
}

func assertionForm(assertion string) url.Values {
	return form("client_secret", "", "client_assertion_type", assertURN, "client_assertion", assertion)
}

func pairCerts(pairs ...keyPair) []*x509.Certificate {
	var certs []*x509.Certificate
	for _, pair := range pairs {
		certs = append(certs, pair.cert)
	}
	return certs
}

func signedPart(jwt string) string { return jwt[:strings.LastIndexByte(jwt, '.')] }

func signaturePart(jwt string) string { return jwt[strings.LastIndexByte(jwt, '.')+1:] }
