package devserver_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

// presenting is a client that trusts the server and shows it a certificate.
func presenting(t *testing.T, server *devserver.Server, pair keyPair) *http.Client {
	t.Helper()
	client := trusting(t, server)
	client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{
		{Certificate: [][]byte{pair.cert.Raw}, PrivateKey: pair.key},
	}
	return client
}

func TestTLSClientAuthentication(t *testing.T) {
	registered := map[devserver.KeyKind]keyPair{}
	client := devserver.Client{ID: appID, Secret: secret.New(appSecret)}
	for _, kind := range []devserver.KeyKind{devserver.KeyRSA, devserver.KeyEC, devserver.KeyEC384, devserver.KeyEd25519} {
		registered[kind] = newKeyPair(t, kind, time.Hour)
		client.Certificates = append(client.Certificates, registered[kind].cert)
	}
	expired := newKeyPair(t, devserver.KeyEC, -time.Hour)
	client.Certificates = append(client.Certificates, expired.cert)
	server := start(t, devserver.Options{TLS: true, Clients: []devserver.Client{client}})

	type test struct {
		pair   keyPair
		form   []string // changes of a request without a secret
		status int
		method string
		error  string
	}
	const byTLS = "self_signed_tls_client_auth"
	tests := map[string]test{
		"another certificate":      {newKeyPair(t, devserver.KeyEC, time.Hour), nil, 401, byTLS, "none that is registered"},
		"expired":                  {expired, nil, 401, byTLS, "the client's certificate is valid only from"},
		"another client":           {registered[devserver.KeyEC], []string{"client_id", "other"}, 401, byTLS, "there is no client"},
		"no client":                {registered[devserver.KeyEC], []string{"client_id", ""}, 400, byTLS, "client_id is missing"},
		"beside a secret":          {registered[devserver.KeyEC], []string{"client_secret", appSecret}, 200, "client_secret_post", ""},
		"a secret decides":         {registered[devserver.KeyEC], []string{"client_secret", "wrong"}, 401, "client_secret_post", "Invalid client secret"},
		"a stranger with a secret": {newKeyPair(t, devserver.KeyEC, time.Hour), []string{"client_secret", appSecret}, 200, "client_secret_post", ""},
	}
	for kind, pair := range registered {
		tests["registered, "+string(kind)] = test{pair, nil, 200, byTLS, ""}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			changes := append([]string{"client_secret", ""}, tt.form...)
			got := mustDo(t, presenting(t, server, tt.pair), newRequest(t, server.TokenURL(), form(changes...)))
			if got.status != tt.status || !strings.Contains(got.text("error_description"), tt.error) {
				t.Errorf("answer = %d %s, want %d and %q", got.status, got.body, tt.status, tt.error)
			}
			entry := lastRequest(t, server)
			if entry.AuthMethod != tt.method || tt.status == 200 && tt.method == byTLS && entry.KeyID != hexThumbprint(tt.pair.cert) {
				t.Errorf("logged as %q with key %q, want %q", entry.AuthMethod, entry.KeyID, tt.method)
			}
		})
	}
}

func hexThumbprint(cert *x509.Certificate) string { return fmt.Sprintf("%x", sha256.Sum256(cert.Raw)) }

func TestDiscoveryNamesTLSClientAuthentication(t *testing.T) {
	server := start(t, devserver.Options{TLS: true})
	got := mustGet(t, trusting(t, server), server.URL()+"/.well-known/openid-configuration", "")
	if methods := fmt.Sprint(got.fields["token_endpoint_auth_methods_supported"]); methods != "[client_secret_basic client_secret_post private_key_jwt self_signed_tls_client_auth]" {
		t.Errorf("token_endpoint_auth_methods_supported = %v", methods)
	}
}
