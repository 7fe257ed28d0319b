package transport_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/transport"
)

// What goes wrong in a handshake is said in words, with what to do.
func TestExplainHandshakes(t *testing.T) {
	for name, tc := range map[string]struct {
		server func(*tls.Config, *x509.Certificate)
		want   string
	}{
		"old suites": {func(c *tls.Config, _ *x509.Certificate) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
		}, "shares no cipher suite with credagent"},
		"old version": {func(c *tls.Config, _ *x509.Certificate) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}, "speaks no TLS that credagent does"},
		"expired":     {func(_ *tls.Config, c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, "compare this host's clock"},
		"common name": {func(_ *tls.Config, c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, nil }, "names its host in no subject alternative name"},
		"unknown CA":  {func(_ *tls.Config, c *x509.Certificate) { c.IsCA = false }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
			config := &tls.Config{}
			tc.server(config, template)
			der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
			s := httptest.NewUnstartedServer(http.NotFoundHandler())
			s.TLS = config
			s.StartTLS()
			t.Cleanup(s.Close)
			roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
			if tc.want == "" {
				roots, tc.want = nil, "name its certificate in ca_file"
			}
			if text := explained(t, s.URL, roots); !strings.Contains(text, tc.want) {
				t.Errorf("error %q does not say %q", text, tc.want)
			}
		})
	}
	t.Run("no TLS", func(t *testing.T) {
		s := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(s.Close)
		if text := explained(t, strings.Replace(s.URL, "http:", "https:", 1), nil); !strings.Contains(text, "HTTP response to HTTPS client") && !strings.Contains(text, "does not speak TLS") {
			t.Errorf("error %q", text)
		}
	})
}

// What no server of Go's does is known by the words of Go's errors.
func TestExplainByWords(t *testing.T) {
	for said, want := range map[string]string{
		"local error: tls: no renegotiation":                                         "the server renegotiates TLS after the request",
		"tls: failed to parse certificate from server: x509: negative serial number": "GODEBUG=x509negativeserial=1",
		"x509: certificate signed by unknown authority":                              "ca_file",
		"x509: cannot verify signature: insecure algorithm SHA1-RSA":                 "signed with SHA-1",
		"tls: server selected unsupported protocol version 301":                      "have TLS 1.2 allowed",
		"tls: first record does not look like a TLS handshake":                       "look at the port",
		"remote error: tls: unrecognized name":                                       "for this host name",
		"read tcp 127.0.0.1:1->127.0.0.1:2: read: connection reset by peer":          "reset by peer",
	} {
		if text := transport.Explain(errors.New(said)); !strings.HasPrefix(text, said) || !strings.Contains(text, want) {
			t.Errorf("error %q does not say %q", text, want)
		}
	}
}

func explained(t *testing.T, at string, roots []byte) string {
	t.Helper()
	made, err := transport.New(roots, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(made.CloseIdleConnections)
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, at, nil)
	response, err := made.RoundTrip(request)
	if err == nil {
		response.Body.Close()
		t.Fatal("it answered")
	}
	return transport.Explain(err)
}
