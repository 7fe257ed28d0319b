package exchange

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
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

// Endpoint knows where a client's token requests go, if necessary from the issuer's metadata.
type Endpoint struct {
	cfg config.Client

	mu        sync.Mutex     // held while the issuer is asked, so that only one caller asks
	metadata  oauth.Metadata // guarded by mu, as is all that follows
	fetchedAt time.Time      // of the metadata; zero before the first

	soundRoots [sha256.Size]byte // of the content of ca_file that was found valid
}

// NewEndpoint returns where a client's requests go.
func NewEndpoint(cfg config.Client) *Endpoint {
	e := &Endpoint{cfg: cfg}
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

// ServerOf names a client's authorization server, in the one spelling that all ways of writing it share: by
// its token endpoint, or by its issuer where that has yet to be asked for one.
func ServerOf(cfg config.Client) string {
	if at := NewEndpoint(cfg).URL(); at != "" {
		return oauth.CanonicalEndpoint(at)
	}
	return "issuer " + oauth.CanonicalEndpoint(cfg.Issuer)
}

// URL returns the token endpoint, or "" while it is unknown.
func (e *Endpoint) URL() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.metadata.TokenEndpoint
}

// Request begins a token request with everything that is the same for all of the client's tokens.
func (e *Endpoint) Request(ctx context.Context) (provider.Request, *Answer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	roots, err := e.roots()
	if err != nil {
		a := Answer{At: time.Now()}
		a.Fail(&Failure{Class: policy.Configuration, Message: err.Error(), Advice: "fix ca_file: it names a file with PEM certificates that the agent's user can read", Local: true}, true)
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

// roots reads the certificates that the server is trusted by; e.mu is held.
func (e *Endpoint) roots() ([]byte, error) {
	if e.cfg.CAFile == "" {
		return nil, nil
	}
	roots, err := os.ReadFile(e.cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("reading ca_file: %w", err)
	}
	if sum := sha256.Sum256(roots); sum != e.soundRoots {
		if _, err := transport.Roots(roots); err != nil {
			return nil, fmt.Errorf("reading ca_file %q: %w", e.cfg.CAFile, err)
		}
		e.soundRoots = sum
	}
	return roots, nil
}

// header returns the headers for Entra: an id to find the request, and a note that this client obeys Retry-After.
func (e *Endpoint) header() http.Header {
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

// discover fetches the issuer's metadata when there is none or it is old. Old metadata stays in use while it cannot
// be fetched again.
func (e *Endpoint) discover(ctx context.Context, roots []byte) *Answer {
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

// Moved reads the metadata again, because the token endpoint that it named for a request is gone. It reports whether
// the metadata now names another one.
func (e *Endpoint) Moved(ctx context.Context, request provider.Request) bool {
	if e.cfg.Issuer == "" {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.metadata.TokenEndpoint != request.TokenEndpoint {
		return true // another request has already found out
	}
	metadata, failed := e.fetch(ctx, request.TrustRoots)
	if failed != nil {
		return false
	}
	e.metadata, e.fetchedAt = metadata, time.Now()
	return metadata.TokenEndpoint != request.TokenEndpoint
}

// fetch tries the possible URLs of the metadata, one after another.
func (e *Endpoint) fetch(ctx context.Context, roots []byte) (oauth.Metadata, *Answer) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.RequestTimeout)
	defer cancel()
	connections, err := transport.New(roots, e.cfg.Proxy)
	if err != nil {
		a := Answer{At: time.Now()}
		a.Fail(&Failure{Class: policy.Configuration, Message: err.Error(), Local: true}, true)
		return oauth.Metadata{}, &a
	}
	defer connections.CloseIdleConnections()
	var failed *Answer
	for _, at := range oauth.MetadataURLs(e.cfg.Issuer) {
		reply, err := follow(ctx, connections, at)
		metadata, another := e.read(reply, err)
		if another == nil {
			return metadata, nil
		}
		if failed == nil || another.Failure.Status != http.StatusNotFound {
			failed = another // prefer the other URL's failure over "not found"
		}
		if err != nil || !elsewhere(reply) {
			break
		}
	}
	return oauth.Metadata{}, failed
}

// elsewhere reports whether the metadata may be at the other URL: servers that know only one of the two answer the
// other like any unknown address.
func elsewhere(reply provider.Reply) bool {
	switch reply.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusGone:
		return true
	case http.StatusOK:
		return !oauth.IsMetadata(reply.Body)
	}
	return reply.Status >= 300 && reply.Status < 400
}

// follow gets a document, following redirects on the same host. No credential is sent with the request, and the
// result is accepted only if it is the issuer's own.
func follow(ctx context.Context, connections http.RoundTripper, at string) (provider.Reply, error) {
	const most = 5
	var reply provider.Reply
	for range most {
		var err error
		if reply, err = get(ctx, connections, at); err != nil {
			return reply, err
		}
		next := redirected(at, reply)
		if next == "" {
			break
		}
		at = next
	}
	return reply, nil
}

// redirected returns the target of a redirect on the same host; "" for none. It may lead from http to https, but not
// back.
func redirected(at string, reply provider.Reply) string {
	switch reply.Status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return ""
	}
	from, err := url.Parse(at)
	if err != nil || reply.Header.Get("Location") == "" {
		return ""
	}
	to, err := from.Parse(reply.Header.Get("Location"))
	switch {
	case err != nil || to.User != nil:
	case to.Scheme == from.Scheme && to.Host == from.Host:
		return to.String()
	case from.Scheme == "http" && to.Scheme == "https" && to.Hostname() == from.Hostname():
		return to.String()
	}
	return ""
}

// read interprets the metadata's answer; its failures have the same classes as a token request's.
func (e *Endpoint) read(reply provider.Reply, err error) (oauth.Metadata, *Answer) {
	now := time.Now()
	var a Answer
	switch {
	case err != nil:
		a = unanswered(&provider.Failure{Kind: kindOf(err), Message: transport.Explain(err)}, e.cfg.RequestTimeout, now)
	case reply.Status != http.StatusOK || reply.BodyError != "":
		a = Answer{At: now}
		a.refused(reply)
	default:
		metadata, err := oauth.ParseMetadata(reply.Body, e.cfg.Issuer, e.cfg.AllowInsecureHTTP)
		if err == nil {
			return metadata, nil
		}
		a = Answer{At: now}
		failure := &Failure{Class: policy.Transient, Status: reply.Status, Message: err.Error()}
		var other *oauth.IssuerError
		if errors.As(err, &other) {
			failure.Class = policy.Configuration
			failure.Advice = "spell issuer exactly as the server does; where the two can never match, give token_url in its place"
		}
		var unusable *oauth.EndpointError
		if errors.As(err, &unusable) {
			failure.Class = policy.Configuration
			failure.Advice = "check issuer, and have the server name its token endpoint as an absolute https URL; or give token_url in place of issuer"
		}
		a.Fail(failure, true)
		return oauth.Metadata{}, &a
	}
	e.speakOfIssuer(reply, &a)
	return oauth.Metadata{}, &a
}

// speakOfIssuer makes the error of a failed metadata request name the issuer, not the token endpoint.
func (e *Endpoint) speakOfIssuer(reply provider.Reply, a *Answer) {
	message := a.Failure.Message
	switch {
	case reply.Status >= 300 && reply.Status < 400:
		message = "the server answered with redirects that lead to another host or to no end"
	case a.Failure.Class == policy.Credential: // no credential went with the request
		a.Failure.Class, a.Failure.RefusesClient = policy.Configuration, false
		a.Outcome.Class = policy.Configuration
	}
	if a.Failure.Class == policy.Configuration {
		a.Failure.Advice = "check issuer; where the server has no metadata for this host to read, give token_url in its place"
	}
	a.Failure.Message = fmt.Sprintf("reading the metadata of %q: %s", e.cfg.Issuer, message)
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
	if response.StatusCode == http.StatusSwitchingProtocols {
		// Its body is the raw connection, which has no time limit.
		reply.BodyError = "reading the answer: the server switched to another protocol"
		return reply, nil
	}
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
	var proxy *transport.ProxyError
	if errors.As(err, &proxy) && proxy.Setting {
		return provider.KindConfig
	}
	return provider.KindNetwork
}

// CredentialOf returns what a failed exchange still reveals about the credential.
func CredentialOf(err error) provider.Credential {
	var failure *provider.Failure
	if errors.As(err, &failure) {
		return failure.Credential
	}
	return provider.Credential{}
}
