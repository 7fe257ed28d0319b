// Package transport makes the HTTP connections of credagent and its providers: which roots are
// trusted, which proxy is used, and that no request is retried automatically. Call RoundTrip on them:
// an http.Client follows redirects, which would carry a client's authentication elsewhere.
package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/credagent/credagent/internal/keyfile"
)

const (
	idleTimeout = 90 * time.Second
	maxHeader   = 64 << 10 // bytes of an answer's headers
	// setupTimeout limits setting up a connection. A request's own time limit ends the request, but not a connection
	// that net/http continues to set up for the next one.
	setupTimeout = 30 * time.Second
)

// New returns a transport that trusts roots (PEM) in addition to the system's, and uses proxy (a URL) instead of the
// environment's. Both may be empty.
func New(roots []byte, proxy string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                  fromEnvironment(),
		OnProxyConnectResponse: refusedConnect,
		DialContext:            (&net.Dialer{Timeout: setupTimeout}).DialContext,
		TLSHandshakeTimeout:    setupTimeout,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    2,
		MaxResponseHeaderBytes: maxHeader,
		// HTTP/1.1 only: over HTTP/2 net/http retries a request that the server reports as not processed, and one
		// exchange must be one request.
		Protocols: new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	if len(roots) > 0 {
		pool, err := Roots(roots)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = pool
	}
	if proxy != "" {
		fixed, err := ParseProxy(proxy)
		if err != nil {
			return nil, &ProxyError{Message: "the client's proxy cannot be used: " + err.Error(), Setting: true}
		}
		t.Proxy = http.ProxyURL(fixed)
	}
	return t, nil
}

// Roots returns the system's trust roots and those in data, which is read as leniently as a certificate's file: PEM
// or DER, even if an editor changed it.
func Roots(data []byte) (*x509.CertPool, error) {
	extra, err := keyfile.Certificates(data)
	if err != nil {
		return nil, fmt.Errorf("the extra trust roots (ca_file): %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, root := range extra {
		pool.AddCert(root)
	}
	return pool, nil
}
