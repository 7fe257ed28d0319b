package kubeapi

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/credagent/credagent/internal/transport"
)

// overHTTPS sends requests to a server that roots, and nothing else, vouch for.
func overHTTPS(roots []byte) (http.RoundTripper, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return nil, errors.New("there is no certificate in it")
	}
	made, err := transport.New(nil, "")
	if err != nil {
		return nil, err
	}
	made.Proxy, made.OnProxyConnectResponse = nil, nil
	made.TLSClientConfig.RootCAs = pool
	made.TLSHandshakeTimeout = RequestTimeout
	made.MaxIdleConnsPerHost = mostRequests
	made.IdleConnTimeout = 30 * time.Second
	return made, nil
}

// explain puts the reason why there was no answer into words.
func explain(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("the API server's certificate is not one that the service account's ca.crt vouches for: %w", err)
	case errors.As(err, &name):
		return fmt.Errorf("the API server's certificate is for another name: %w", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return errors.New("the API server did not answer in time")
	}
	return fmt.Errorf("the API server cannot be reached: %w", err)
}
