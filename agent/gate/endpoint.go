package gate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/internal/transport"
)

const (
	metadataLife = 24 * time.Hour
	maxMetadata  = 1 << 20
)

// endpoint knows where a client's token requests go, and finds it out from the issuer's metadata
// if need be. It belongs to the client's goroutine.
type endpoint struct {
	cfg       config.Client
	metadata  oauth.Metadata
	fetchedAt time.Time // of the metadata; zero while there is none
}

func newEndpoint(cfg config.Client) *endpoint {
	e := &endpoint{cfg: cfg}
	switch {
	case cfg.Entra != nil:
		base := cfg.Entra.Authority + "/" + url.PathEscape(cfg.Entra.Tenant)
		e.metadata = oauth.Metadata{
			Issuer:               base + "/v2.0",
			TokenEndpoint:        base + "/oauth2/v2.0/token",
			AuthMethodsSupported: []string{"client_secret_post", "private_key_jwt"},
		}
	case cfg.TokenURL != "":
		e.metadata.TokenEndpoint = cfg.TokenURL
	}
	return e
}

// url is the token endpoint, or "" while it is not known.
func (e *endpoint) url() string { return e.metadata.TokenEndpoint }

// request begins a token request: everything that is the same for all the client's tokens.
func (e *endpoint) request(ctx context.Context) (provider.Request, *Answer) {
	roots, err := e.roots()
	if err != nil {
		a := Answer{At: time.Now()}
		a.fail(&Failure{Class: policy.Configuration, Message: err.Error(), Advice: "mend ca_file", Local: true}, true)
		return provider.Request{}, &a
	}
	if failed := e.discover(ctx, roots); failed != nil {
		return provider.Request{}, failed
	}
	return provider.Request{
		TokenEndpoint:        e.metadata.TokenEndpoint,
		MTLSTokenEndpoint:    e.metadata.MTLSAliases.TokenEndpoint,
		Issuer:               e.metadata.Issuer,
		AuthMethodsSupported: e.metadata.AuthMethodsSupported,
		Header:               e.header(),
		TrustRoots:           roots,
		Proxy:                e.cfg.Proxy,
		Timeout:              e.cfg.RequestTimeout,
	}, nil
}

func (e *endpoint) roots() ([]byte, error) {
	if e.cfg.CAFile == "" {
		return nil, nil
	}
	roots, err := os.ReadFile(e.cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("reading ca_file: %w", err)
	}
	return roots, nil
}

// header is what Entra wants to see: an id to find the request by, and that this client obeys
// Retry-After.
func (e *endpoint) header() http.Header {
	header := http.Header{"User-Agent": {"credagent"}}
	if e.cfg.Entra != nil {
		header.Set("Client-Request-Id", newGUID())
		header.Set("Return-Client-Request-Id", "true")
		header.Set("X-Ms-Lib-Capability", "retry-after, h429")
	}
	return header
}

func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// discover fetches the issuer's metadata when there is none or it is old. Old metadata serves on
// while new cannot be had.
func (e *endpoint) discover(ctx context.Context, roots []byte) *Answer {
	if e.cfg.Issuer == "" || !e.fetchedAt.IsZero() && time.Since(e.fetchedAt) < metadataLife {
		return nil
	}
	metadata, failed := e.fetch(ctx, roots)
	if failed != nil && e.fetchedAt.IsZero() {
		return failed
	}
	if failed == nil {
		e.metadata = metadata
	}
	e.fetchedAt = time.Now()
	return nil
}

// fetch asks the places where metadata may be, one after another while there is nothing.
func (e *endpoint) fetch(ctx context.Context, roots []byte) (oauth.Metadata, *Answer) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.RequestTimeout)
	defer cancel()
	connections, err := transport.New(roots, e.cfg.Proxy)
	if err != nil {
		a := Answer{At: time.Now()}
		a.fail(&Failure{Class: policy.Configuration, Message: err.Error(), Local: true}, true)
		return oauth.Metadata{}, &a
	}
	defer connections.CloseIdleConnections()
	var reply provider.Reply
	for _, at := range oauth.MetadataURLs(e.cfg.Issuer) {
		reply, err = get(ctx, connections, at)
		if err != nil || reply.Status != http.StatusNotFound {
			break
		}
	}
	return e.read(reply, err)
}

// read gives the metadata's answer its meaning; its failures are of the same classes as a token
// request's.
func (e *endpoint) read(reply provider.Reply, err error) (oauth.Metadata, *Answer) {
	now := time.Now()
	var a Answer
	switch {
	case err != nil:
		a = unanswered(&provider.Failure{Kind: kindOf(err), Message: err.Error()}, e.cfg.RequestTimeout, now)
	case reply.Status != http.StatusOK || reply.BodyError != "":
		a = Answer{At: now}
		a.refused(reply)
	default:
		metadata, err := oauth.ParseMetadata(reply.Body, e.cfg.Issuer, e.cfg.AllowInsecureHTTP)
		if err == nil {
			return metadata, nil
		}
		a = Answer{At: now}
		a.fail(&Failure{Class: policy.Transient, Status: reply.Status, Message: err.Error()}, true)
	}
	a.Failure.Message = fmt.Sprintf("reading the metadata of %q: %s", e.cfg.Issuer, a.Failure.Message)
	return oauth.Metadata{}, &a
}

func get(ctx context.Context, connections http.RoundTripper, at string) (provider.Reply, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return provider.Reply{}, errors.New("the issuer is not a URL")
	}
	request.Header.Set("Accept", "application/json")
	response, err := connections.RoundTrip(request)
	if err != nil {
		return provider.Reply{}, err
	}
	defer response.Body.Close()
	reply := provider.Reply{Status: response.StatusCode, Header: response.Header}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxMetadata+1))
	switch {
	case err != nil:
		reply.BodyError = "reading the answer: " + err.Error()
	case len(body) > maxMetadata:
		reply.BodyError = "reading the answer: it is longer than 1 MiB"
	default:
		reply.Body = body
	}
	return reply, nil
}

func kindOf(err error) provider.Kind {
	var network net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout() {
		return provider.KindTimeout
	}
	return provider.KindNetwork
}

// credentialOf is what a failed exchange still says of the credential.
func credentialOf(err error) provider.Credential {
	var failure *provider.Failure
	if errors.As(err, &failure) {
		return failure.Credential
	}
	return provider.Credential{}
}
