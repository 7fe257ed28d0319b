package plugins

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/credagent/credagent/internal/handshake"
	"github.com/credagent/credagent/internal/transport"
	"github.com/credagent/credagent/plugins/providerpb"
)

// maxBody limits how much of an answer is read. A token answer is a few KiB.
const maxBody = 1 << 20

// maxHeader limits a header of an answer that is passed on, in bytes; a longer one is dropped.
const maxHeader = 1 << 10

// maxHeaders limits how many are passed on, like the protocol with the agent.
const maxHeaders = 32

// maxTransports limits how many kinds of connection are kept: one for all clients with the same trust roots and
// proxy, and one for each client that presents a certificate. Beyond it, the one that has been unused longest is
// dropped.
const maxTransports = 256

// keptUnused is how long the connections of a client's certificate, and with them its key, are kept after their last
// use: other clients may keep the process alive much longer.
const keptUnused = 2 * time.Minute

// maxIdle limits the connections of one kind that are kept between requests.
const maxIdle = 8

// answerHeaders are the headers of an answer that are passed to the agent: those that it needs to obey the server, to
// report why it refused, and to identify a request to the server's operator.
var answerHeaders = [...]string{
	"Date", "Content-Type", "Retry-After", "Www-Authenticate",
	"Retry-After-Ms", "X-Ms-Retry-After-Ms", "Ratelimit-Reset", "Ratelimit", "X-Ratelimit-Reset", "X-Rate-Limit-Reset",
	"Client-Request-Id", "X-Ms-Request-Id", "X-Request-Id", "X-Correlation-Id",
}

// exchanger makes token requests and keeps their connections for the next one.
type exchanger struct {
	binding    *binding // nil if the agent does not bind its providers
	mu         sync.Mutex
	transports map[transportKey]*keptTransport // guarded by mu; at most maxTransports
}

// transportKey distinguishes the kinds of connection. A connection on which a client's certificate was presented is
// used by that client alone: to the server everything on it comes from that client.
type transportKey struct {
	roots  [sha256.Size]byte
	proxy  string
	client [sha256.Size]byte // the client that presents a certificate; zero for none
}

// keptTransport is a kind of connection, kept for the next request.
type keptTransport struct {
	*http.Transport
	certificate [sha256.Size]byte // the one presented; zero for none
	used        time.Time
}

// exchange sends one request and returns the result. It never retries.
func (e *exchanger) exchange(ctx context.Context, in *providerpb.ExchangeRequest, r *Request) *providerpb.ExchangeReply {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(in.GetTimeoutMilliseconds())*time.Millisecond)
	defer cancel()
	if err := e.binding.check(ctx, r.TokenEndpoint, handshake.Connection(in.GetTrustRoots(), in.GetProxy())); err != nil {
		return failed(providerpb.Failure_KIND_CONFIG, err.Error())
	}
	connections, err := e.kept(in, r.TLSCertificate)
	if err != nil {
		return failed(providerpb.Failure_KIND_CONFIG, err.Error())
	}
	request, err := newHTTPRequest(ctx, r)
	if err != nil {
		return failed(providerpb.Failure_KIND_CONFIG, "the token endpoint is not a URL")
	}
	// Not through an http.Client: it follows redirects, which would carry the client's
	// authentication to wherever the answer says, and loses an answer whose Location is no URL.
	response, err := connections.RoundTrip(request)
	if err != nil {
		return failed(classify(err))
	}
	defer response.Body.Close()
	if via, _ := connections.Proxy(request); via != nil && response.StatusCode == http.StatusProxyAuthRequired {
		return failed(classify(transport.ProxyRefusal(via, response))) // the proxy's answer, not the server's
	}
	return &providerpb.ExchangeReply{Result: &providerpb.ExchangeReply_Answer{Answer: readAnswer(response)}}
}

func newHTTPRequest(ctx context.Context, r *Request) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.TokenEndpoint, strings.NewReader(r.Form.Encode()))
	if err != nil {
		return nil, err
	}
	for name, values := range r.Header {
		request.Header[name] = values
	}
	// With these headers net/http would retry a request on a new connection.
	request.Header.Del("Idempotency-Key")
	request.Header.Del("X-Idempotency-Key")
	return request, nil
}

// readAnswer reads as much of an answer as there is. An answer that breaks off is still an answer:
// its status and its Retry-After count.
func readAnswer(response *http.Response) *providerpb.Answer {
	answer := &providerpb.Answer{Status: int32(response.StatusCode), Headers: shownHeaders(response.Header)}
	if response.StatusCode == http.StatusSwitchingProtocols {
		// Its body is the raw connection, which has no time limit.
		answer.BodyError = "reading the answer: the server switched to another protocol"
		return answer
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		kind, message := classify(err)
		answer.TimedOut = kind == providerpb.Failure_KIND_TIMEOUT
		answer.BodyError = "reading the answer: " + message
	case len(body) > maxBody:
		answer.BodyError = "reading the answer: it is longer than 1 MiB"
	default:
		answer.Body = body
	}
	return answer
}

// shownHeaders returns the headers of an answer that are passed on.
func shownHeaders(header http.Header) []*providerpb.Parameter {
	var shown []*providerpb.Parameter
	for _, name := range answerHeaders {
		for _, value := range header.Values(name) {
			if value = plain(value); value != "" && len(value) <= maxHeader {
				shown = append(shown, &providerpb.Parameter{Name: name, Value: value})
			}
		}
	}
	return shown[:min(len(shown), maxHeaders)]
}

// plain replaces what the protocol with the agent cannot carry: control characters, and bytes that are not UTF-8. One
// such byte in a header must not lose the whole answer.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// kept returns the connections for a request. Connections with an older certificate of the same client are dropped,
// and with them the old key.
func (e *exchanger) kept(in *providerpb.ExchangeRequest, certificate *tls.Certificate) (*http.Transport, error) {
	key := transportKey{roots: sha256.Sum256(in.GetTrustRoots()), proxy: in.GetProxy()}
	var presented [sha256.Size]byte
	if certificate != nil {
		presented = sha256.Sum256(bytes.Join(certificate.Certificate, nil))
		key.client = clientOf(in)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.forgetUnused(now)
	if known, ok := e.transports[key]; ok && known.certificate == presented {
		known.used = now
		return known.Transport, nil
	}
	made, err := newTransport(in, certificate)
	if err != nil {
		return nil, err
	}
	e.drop(key)
	if e.transports == nil {
		e.transports = map[transportKey]*keptTransport{}
	}
	if len(e.transports) >= maxTransports {
		e.drop(e.longestUnused())
	}
	e.transports[key] = &keptTransport{Transport: made, certificate: presented, used: now}
	return made, nil
}

// clientOf identifies the client of a certificate, by its configuration.
func clientOf(in *providerpb.ExchangeRequest) [sha256.Size]byte {
	config := sha256.Sum256(in.GetConfig())
	return sha256.Sum256(append(config[:], in.GetClientId()...))
}

// drop removes a kind of connection; e.mu is held. Requests under way on it are completed.
func (e *exchanger) drop(key transportKey) {
	if old, ok := e.transports[key]; ok {
		old.CloseIdleConnections()
		delete(e.transports, key)
	}
}

func (e *exchanger) forgetUnused(now time.Time) {
	for key, kept := range e.transports {
		if key.client != [sha256.Size]byte{} && now.Sub(kept.used) > keptUnused {
			e.drop(key)
		}
	}
}

func (e *exchanger) longestUnused() (longest transportKey) {
	var oldest *keptTransport
	for key, kept := range e.transports {
		if oldest == nil || kept.used.Before(oldest.used) {
			longest, oldest = key, kept
		}
	}
	return longest
}

func newTransport(in *providerpb.ExchangeRequest, certificate *tls.Certificate) (*http.Transport, error) {
	made, err := transport.New(in.GetTrustRoots(), in.GetProxy())
	if err != nil {
		return nil, err
	}
	made.MaxIdleConnsPerHost = maxIdle
	if certificate != nil {
		// Not Certificates: Go sends none of those if the server lists other issuers, and a server cannot list the
		// issuer of a self-signed certificate.
		made.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	return made, nil
}

// classify distinguishes a timeout and a refused TLS certificate from other failures.
func classify(err error) (providerpb.Failure_Kind, string) {
	var inNet net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &inNet) && inNet.Timeout() {
		return providerpb.Failure_KIND_TIMEOUT, "the server did not answer in time"
	}
	if alert, refused := refusedCertificate(err); refused {
		return providerpb.Failure_KIND_REFUSED, fmt.Sprintf("the server ended the TLS handshake because of the client's certificate: %s", alert)
	}
	var proxy *transport.ProxyError
	if errors.As(err, &proxy) && proxy.Setting {
		return providerpb.Failure_KIND_CONFIG, proxy.Message
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return providerpb.Failure_KIND_NETWORK, "the connection ended before the answer was whole"
	}
	if strings.Contains(err.Error(), "malformed") {
		// net/http quotes pieces of such an answer, which may be pieces of the request.
		return providerpb.Failure_KIND_NETWORK, "the server's answer is malformed: it is not HTTP/1.1"
	}
	return providerpb.Failure_KIND_NETWORK, transport.Explain(err)
}

func failed(kind providerpb.Failure_Kind, message string) *providerpb.ExchangeReply {
	failure := &providerpb.Failure{Kind: kind, Message: plain(message)}
	return &providerpb.ExchangeReply{Result: &providerpb.ExchangeReply_Failure{Failure: failure}}
}
