package devserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	journalKeeps   = 10_000 // requests, at least
	watcherBacklog = 256
	maxRetryAfter  = 1_000_000_000 // seconds; more would overflow a Duration
)

// Request is a token request as received, without secrets, assertions and tokens.
type Request struct {
	At         time.Time     `json:"at"`
	Path       string        `json:"path"`
	Client     string        `json:"client"`           // as it named itself
	AuthMethod string        `json:"auth_method"`      // client_secret_basic, client_secret_post, private_key_jwt, federated_jwt, self_signed_tls_client_auth, none; several joined by +
	KeyID      string        `json:"key_id,omitempty"` // the key that verified its assertion or TLS connection: a certificate's SHA-256 in hex, or the key's kid
	Scope      string        `json:"scope,omitempty"`
	Form       url.Values    `json:"form"`
	Header     http.Header   `json:"header"` // a few that identify the caller
	Status     int           `json:"status"` // 0 when it got no answer
	RetryAfter string        `json:"retry_after,omitempty"`
	Fault      string        `json:"fault,omitempty"`    // the fault it met, as ParseFault reads it
	Outcome    string        `json:"outcome"`            // issued, an OAuth error code, or the name of the fault
	Early      time.Duration `json:"early_ns,omitempty"` // how much sooner than an earlier Retry-After allowed
}

// Requests returns the token requests seen, oldest first: all of them up to 10,000, then at
// least the last 10,000.
func (s *Server) Requests() []Request { return s.journal.all() }

// Subscribe returns a channel of the token requests seen from now on, and a function that ends
// it. The channel is closed then, and when the server is; a reader that lags 256 requests behind misses some.
func (s *Server) Subscribe() (requests <-chan Request, cancel func()) { return s.journal.subscribe() }

// Wait returns when the server has seen n token requests in all. A request counts once its answer is decided, which
// is before the answer is sent.
func (s *Server) Wait(ctx context.Context, n int) error {
	for {
		seen, changed := s.journal.seen()
		if seen >= n {
			return nil
		}
		select {
		case <-changed:
		case <-s.closed:
			return fmt.Errorf("waiting for %d token requests, %d seen: %w", n, seen, http.ErrServerClosed)
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d token requests, %d seen: %w", n, seen, ctx.Err())
		}
	}
}

// RetryAfterViolations counts the token requests that arrived before a Retry-After of an earlier
// answer to the same client at the same endpoint had passed; Request.Early says by how much.
// A request that arrived before that answer was decided does not count.
func (s *Server) RetryAfterViolations() int {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return s.journal.violations
}

// journal is the request log, and remembers the waits that clients were asked for.
type journal struct {
	mu         sync.Mutex
	arrived    int
	total      int
	violations int
	requests   []Request
	asks       map[gate]ask
	changed    chan struct{}
	watchers   map[chan Request]bool
	closed     bool
}

// gate is one client at one token endpoint.
type gate struct{ client, path string }

// ask is a wait that a gate was asked for: it applies to the requests that arrive after it.
type ask struct {
	arrived int
	until   time.Time
}

// arrival numbers a request: with a clock that stands still, times alone give no order.
type arrival struct {
	number int
	at     time.Time
}

func newJournal() *journal {
	return &journal{asks: map[gate]ask{}, changed: make(chan struct{}), watchers: map[chan Request]bool{}}
}

func (j *journal) arrive() arrival {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.arrived++
	return arrival{number: j.arrived, at: time.Now()}
}

func (j *journal) record(a arrival, r Request) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r.Early = j.hold(a, gate{r.Client, r.Path}, r)
	if r.Early > 0 {
		j.violations++
	}
	j.total++
	j.requests = append(j.requests, r)
	if len(j.requests) >= 2*journalKeeps {
		j.requests = slices.Clone(j.requests[journalKeeps:])
	}
	close(j.changed)
	j.changed = make(chan struct{})
	for watcher := range j.watchers {
		select {
		case watcher <- r:
		default:
		}
	}
}

// hold returns how much too early a request is, and notes the wait that its answer asks for.
func (j *journal) hold(a arrival, g gate, r Request) time.Duration {
	var early time.Duration
	held := j.asks[g]
	if a.number > held.arrived && r.At.Before(held.until) {
		early = held.until.Sub(r.At)
	}
	until, asked := waitUntil(r.RetryAfter, time.Now())
	// Two concurrent answers may ask for different waits: the longer one applies.
	if asked && r.Status >= http.StatusBadRequest && until.After(held.until) {
		j.asks[g] = ask{arrived: j.arrived, until: until}
	}
	return early
}

// waitUntil reads a Retry-After: seconds or an HTTP date (RFC 9110, 10.2.3).
func waitUntil(retryAfter string, now time.Time) (time.Time, bool) {
	seconds, err := strconv.ParseUint(retryAfter, 10, 63)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return now.Add(time.Duration(min(seconds, maxRetryAfter)) * time.Second), true
	}
	until, err := http.ParseTime(retryAfter)
	return until, err == nil
}

func (j *journal) all() []Request {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.requests)
}

func (j *journal) seen() (int, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.total, j.changed
}

func (j *journal) subscribe() (<-chan Request, func()) {
	watcher := make(chan Request, watcherBacklog)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		close(watcher)
		return watcher, func() {}
	}
	j.watchers[watcher] = true
	return watcher, func() { j.unsubscribe(watcher) }
}

func (j *journal) unsubscribe(watcher chan Request) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.watchers[watcher] {
		delete(j.watchers, watcher)
		close(watcher)
	}
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	for watcher := range j.watchers {
		delete(j.watchers, watcher)
		close(watcher)
	}
}
