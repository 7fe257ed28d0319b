package signals

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/logkey"
	"github.com/credagent/credagent/internal/printable"
	"github.com/credagent/credagent/internal/redact"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/internal/transport"
)

// maxBody bounds an answer, in bytes.
const maxBody = 1 << 20

// link sends a stream's requests, one at a time, and knows when the next one may be sent.
type link struct {
	o           Options
	log         *slog.Logger
	connections http.RoundTripper // nil until the first request, and after a failure
	token       secret.Value
	missing     string // why there is no token; "" where there is one

	gate     policy.Gate
	attempts policy.Attempts
	failure  *failure      // of the last request; nil after a success
	ahead    time.Duration // the transmitter's clock before this host's, as far as an answer said
}

// failure is a request that did not bring what it was for. It holds nothing secret.
type failure struct {
	step    string
	class   policy.Class
	status  int // of the answer; 0 where there was none
	message string
	advice  string

	wait     policy.Asked
	timedOut time.Duration
	took     time.Duration
	large    bool // the answer was too long
	forget   bool // the stream is not there any more, so that another one is to be made
}

// Error implements error.
func (f *failure) Error() string {
	if f.status == 0 {
		return f.step + ": " + f.message
	}
	return fmt.Sprintf("%s: HTTP %d, %s", f.step, f.status, f.message)
}

func newLink(o Options) link {
	if o.Connect == nil {
		o.Connect = connect
	}
	return link{o: o, log: o.Log.With(logkey.Stream, o.Config.Name)}
}

// connect opens connections as a client's are.
func connect(c config.Client) (http.RoundTripper, error) {
	var roots []byte
	if c.CAFile != "" {
		var err error
		if roots, err = os.ReadFile(c.CAFile); err != nil {
			return nil, fmt.Errorf("reading ca_file: %w", err)
		}
	}
	return transport.New(roots, c.Proxy)
}

func (l *link) close() {
	if idle, ok := l.connections.(interface{ CloseIdleConnections() }); ok {
		idle.CloseIdleConnections()
	}
	l.connections = nil
}

// lack takes note that there is no token.
func (l *link) lack(err error) {
	l.missing = "waiting for the token that authorizes requests: " + err.Error()
}

// use has requests authorized with a token. Another one may be what was missing.
func (l *link) use(t secret.Value) {
	l.missing = ""
	if t == l.token {
		return
	}
	if l.failure != nil && l.failure.class == policy.Credential {
		l.gate = l.gate.WithoutBackoff()
	}
	l.token = t
}

// opensIn is how long no request may be sent; not more than zero while one may.
func (l *link) opensIn(now time.Time) time.Duration {
	if l.o.Waits != nil {
		until, err := l.o.Waits.Until(l.key())
		if err != nil {
			l.log.Warn("cannot read what the transmitter asked other commands for", logkey.Error, err)
		}
		l.gate = l.gate.Blocked(until)
	}
	if l.gate.Open(now) && l.attempts.Ready(now) {
		return 0
	}
	return max(l.gate.OpensAt().Sub(now), l.attempts.ReadyAt().Sub(now), time.Millisecond)
}

// key is under which all commands on the host know of the transmitter's waits.
func (l *link) key() (endpoint, clientID string) {
	return "signals " + l.o.Config.Issuer, l.o.Client.ClientID
}

// waitsUntil is when the next request may be sent, if not now.
func (l *link) waitsUntil() time.Time {
	until := l.gate.BlockedUntil
	if l.gate.RetryAt.After(until) {
		until = l.gate.RetryAt
	}
	if policy.Passed(time.Now(), until) {
		return time.Time{}
	}
	return until
}

// failed has the next request wait.
func (l *link) failed(f *failure, now time.Time, roll float64) {
	l.failure = f
	l.close()
	o := policy.Outcome{Class: f.class, ClientWide: true, HasRetryAfter: f.wait.Known, RetryAfter: f.wait.For, TimedOut: f.timedOut}
	l.gate = l.gate.Answered(now, o, roll)
	if f.wait.Known && l.o.Waits != nil {
		endpoint, clientID := l.key()
		if err := l.o.Waits.Extend(endpoint, clientID, l.gate.BlockedUntil); err != nil {
			l.log.Warn("other commands on this host may not know what the transmitter asked for", logkey.Error, err)
		}
	}
}

func (l *link) succeeded(now time.Time) {
	l.failure = nil
	l.gate = l.gate.Answered(now, policy.Outcome{Class: policy.Success}, 0)
}

// request is what is sent.
type request struct {
	step   string // what it is for, in a few words
	method string
	url    string
	body   any // nil for none
	limit  time.Duration
	open   bool // without our token
	accept []int
}

// send sends one request and returns the answer's body and status. A redirect is never followed, as our
// token would go along.
func (l *link) send(ctx context.Context, r request) ([]byte, int, *failure) {
	now := time.Now()
	l.attempts, l.gate = l.attempts.Sent(now), l.gate.Sent(now)
	if r.limit == 0 {
		r.limit = l.o.Client.RequestTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	request, err := l.build(ctx, r)
	if err != nil {
		return nil, 0, &failure{step: r.step, class: policy.Configuration, message: err.Error()}
	}
	response, err := l.connections.RoundTrip(request)
	if err != nil {
		return nil, 0, l.unanswered(r, err, time.Since(now))
	}
	defer response.Body.Close()
	return l.read(r, response, now)
}

func (l *link) build(ctx context.Context, r request) (*http.Request, error) {
	if l.connections == nil {
		connections, err := l.o.Connect(l.o.Client)
		if err != nil {
			return nil, err
		}
		l.connections = connections
	}
	var body io.Reader = http.NoBody
	if r.body != nil {
		data, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, r.method, r.url, body)
	if err != nil {
		return nil, errors.New("there is no URL to send it to")
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "credagent")
	if r.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if !r.open {
		request.Header.Set("Authorization", "Bearer "+l.token.Reveal())
	}
	return request, nil
}

// unanswered reads the error of a request that brought no answer.
func (l *link) unanswered(r request, err error, took time.Duration) *failure {
	f := &failure{step: r.step, class: policy.Transient, message: transport.Explain(err), took: took}
	var network net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout() {
		f.message, f.timedOut = fmt.Sprintf("there was no answer within %v", r.limit), r.limit
	}
	var proxy *transport.ProxyError
	if errors.As(err, &proxy) && proxy.Setting {
		f.class = policy.Configuration
	}
	return f
}

// read reads an answer.
func (l *link) read(r request, response *http.Response, sent time.Time) ([]byte, int, *failure) {
	var body []byte
	var err error
	if response.StatusCode != http.StatusSwitchingProtocols { // its body is the naked connection
		body, err = io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	}
	at := time.Now()
	if ahead, known := policy.Skew(response.Header.Get("Date"), at); known {
		l.ahead = ahead
	}
	f := &failure{step: r.step, status: response.StatusCode, took: at.Sub(sent)}
	f.wait = policy.RetryAfter(response.Header, response.StatusCode, at)
	switch accepted := response.StatusCode/100 == 2; {
	case accepted && len(body) > maxBody:
		f.class, f.large, f.message = policy.Transient, true, "the answer is longer than 1 MiB"
		f.wait = policy.Asked{}
	case accepted && err != nil:
		f.class, f.message = policy.Transient, "reading the answer: "+transport.Explain(err)
		f.wait = policy.Asked{}
		if errors.Is(err, context.DeadlineExceeded) {
			f.timedOut = r.limit
		}
	case accepted || statusIn(r.accept, response.StatusCode):
		return body, response.StatusCode, nil
	default:
		l.refused(f, response, body)
	}
	return nil, response.StatusCode, f
}

func statusIn(all []int, status int) bool {
	for _, one := range all {
		if one == status {
			return true
		}
	}
	return false
}

// refused gives an answer that is no success its meaning.
func (l *link) refused(f *failure, response *http.Response, body []byte) {
	words := l.words(response, body)
	f.class = policy.Classify(policy.Refusal{Status: f.status, RetryAfter: f.wait.Known, Words: words})
	f.message = http.StatusText(f.status)
	if words != "" {
		f.message += ": " + words
	}
	switch {
	case f.status/100 == 3:
		f.class = policy.Configuration
		f.message, f.advice = "the transmitter answered with a redirect, which is not followed", "check the issuer"
	case f.status == http.StatusUnauthorized:
		f.advice = "check that the transmitter accepts this token: its scopes (ssf.manage and ssf.read), audience and client"
	case f.status == http.StatusForbidden:
		f.class, f.advice = policy.Refused, "have the transmitter allow this client to manage and read its streams"
	case f.class.Lasting():
		f.advice = "check the stream's configuration, and whether this host may use the transmitter"
	}
}

// words are what the transmitter says, cleaned and bounded, without our token.
func (l *link) words(response *http.Response, body []byte) string {
	var said struct {
		Error       string `json:"error"`
		Err         string `json:"err"`
		Description string `json:"error_description"`
		Detail      string `json:"description"`
	}
	_ = json.Unmarshal(body, &said) // an answer in another form has no words
	var parts []string
	for _, text := range []string{said.Error, said.Err, said.Description, said.Detail} {
		if text != "" {
			parts = append(parts, text)
		}
	}
	if len(parts) == 0 {
		parts = append(parts, response.Header.Get("WWW-Authenticate"))
	}
	hidden := redact.New(l.token.Reveal())
	return printable.Text(hidden.Text(strings.Join(parts, ", ")), 500)
}
