package signals

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/token"
)

// world is a transmitter, and an agent as far as a stream sees one. It is made inside a bubble.
type world struct {
	t      *testing.T
	server *devserver.Server
	cfg    config.Stream
	memory *memory // nil for none
	waits  *waits  // nil for none
	// intercept answers a request in the server's place; nil for none.
	intercept interceptor
	stream    *Stream
	log       strings.Builder

	mu       sync.Mutex
	sent     []sent // guarded by mu, as is all that follows
	token    string // the access token; "" for none
	askedAt  time.Time
	outdated bool
	outdates int // calls that found an old token
	doubts   []string
	revoked  []string
	serial   string // of our certificate
}

// sent is a request that went out.
type sent struct {
	at   time.Time
	what string // method and path
	body string
}

const issuer = "http://127.0.0.1"

func newWorld(t *testing.T) *world {
	server, err := devserver.New(devserver.Options{URL: issuer, TTL: 365 * 24 * time.Hour, Clients: []devserver.Client{{ID: "app-1", Secret: secret.New("s")}}})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, server: server, serial: "0a1b", cfg: config.Stream{
		Name: "corp", Issuer: issuer, Token: "ssf", Events: config.SignalEvents(),
		Subjects: []config.Subject{{Client: "payments", Issuer: issuer, Sub: "app-1"}, {Client: "reports", Opaque: "reports-app"}},
	}}
	w.askedAt = time.Now()
	w.token = w.issue()
	t.Cleanup(func() {
		w.stop()
		w.checkCeiling()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// issue has the server issue an access token.
func (w *world) issue() string {
	transport := &http.Transport{DialContext: w.server.DialContext}
	defer transport.CloseIdleConnections()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"app-1"}, "client_secret": {"s"}, "scope": {"ssf.manage"}}
	response, err := (&http.Client{Transport: transport}).PostForm(w.server.TokenURL(), form)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Token == "" {
		w.t.Fatalf("no token: %v, %d", err, response.StatusCode)
	}
	return answer.Token
}

// start starts a stream, which the cleanup stops.
func (w *world) start() {
	o := Options{
		Config: w.cfg, Client: config.Client{Name: "payments", ClientID: "app-1", RequestTimeout: 10 * time.Second},
		Token: w.current, Outdate: w.outdate, Outdated: func(string) bool { w.mu.Lock(); defer w.mu.Unlock(); return w.outdated },
		CertificateRevoked: func(_ context.Context, client, serial string) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.revoked = append(w.revoked, client+" "+serial)
			return serial == w.serial
		},
		AccountDisabled: func(client, reason string, before time.Time) bool {
			w.mu.Lock()
			w.doubts = append(w.doubts, client+": "+reason)
			w.mu.Unlock()
			return w.outdate(client, before)
		},
		Roll: func() float64 { return 0.5 }, Metrics: metrics.New(prometheus.NewRegistry(), "test"),
		Log: slog.New(slog.NewTextHandler(&w.log, nil)), Connect: w.connect,
	}
	if w.memory != nil {
		o.Memory = w.memory
	}
	if w.waits != nil {
		o.Waits = w.waits
	}
	w.stream = New(o)
	w.stream.Start(w.t.Context())
}

func (w *world) stop() {
	if w.stream != nil {
		w.stream.Stop()
		w.stream = nil
	}
}

// restart stops the stream and starts another one of the same state.
func (w *world) restart() {
	w.stop()
	w.start()
}

func (w *world) current(string) (token.Token, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.token == "" {
		return token.Token{}, errors.New("no token yet")
	}
	return token.Token{AccessToken: secret.New(w.token)}, nil
}

func (w *world) outdate(_ string, before time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.askedAt.Round(0).After(before.Round(0)) {
		return false
	}
	w.outdated = true
	w.outdates++
	return true
}

// refresh replaces the tokens, as keepers do.
func (w *world) refresh() {
	w.mu.Lock()
	w.askedAt, w.outdated = time.Now(), false
	w.mu.Unlock()
	w.stream.Wake()
}

// settle lets some time pass.
func (w *world) settle(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// signal sends an event and lets it arrive.
func (w *world) signal(signal devserver.Signal) string {
	w.t.Helper()
	jti, err := w.server.Signal(signal)
	if err != nil {
		w.t.Fatal(err)
	}
	w.settle(time.Second)
	return jti
}

// only returns the one stream at the server.
func (w *world) only() devserver.Stream {
	w.t.Helper()
	all := w.server.Streams()
	if len(all) != 1 {
		w.t.Fatalf("the server has %d streams, want 1; sent %v; the log:\n%s", len(all), w.requests(), w.log.String())
	}
	return all[0]
}

// count is how many requests of a kind went out.
func (w *world) count(what string) (n int) {
	for _, s := range w.requests() {
		if strings.Contains(s.what, what) {
			n++
		}
	}
	return n
}

func (w *world) requests() []sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent)
}

// found is how often an old token was found.
func (w *world) found() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.outdates
}

// checkCeiling holds every test to the ceiling: at most so many requests in any minute.
func (w *world) checkCeiling() {
	all := w.requests()
	for i := policy.MaxInWindow; i < len(all); i++ {
		if span := all[i].at.Sub(all[i-policy.MaxInWindow].at); span < policy.Window {
			w.t.Errorf("%d requests within %v, up to %s", policy.MaxInWindow+1, span, all[i].what)
			return
		}
	}
}

func (w *world) connect(config.Client) (http.RoundTripper, error) {
	return &noting{w, &http.Transport{DialContext: w.server.DialContext}}, nil
}

// noting notes what is sent, and lets a test answer in the server's place.
type noting struct {
	w *world
	*http.Transport
}

// RoundTrip implements [http.RoundTripper].
func (c *noting) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	c.w.mu.Lock()
	c.w.sent = append(c.w.sent, sent{time.Now(), r.Method + " " + r.URL.Path, string(body)})
	c.w.mu.Unlock()
	if c.w.intercept != nil {
		response, err := c.w.intercept(r)
		if response != nil || err != nil {
			return response, err
		}
	}
	return c.Transport.RoundTrip(r)
}

// answer is an answer of a test's own.
func answer(status int, body string, headers ...string) (*http.Response, error) {
	header := http.Header{}
	for i := 0; i+1 < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// interceptor answers a request in the server's place; a nil answer passes it on.
type interceptor func(*http.Request) (*http.Response, error)

// changing answers with the server's answer, in which some JSON is another.
func (w *world) changing(path string, change func(map[string]any)) interceptor {
	transport := &http.Transport{DialContext: w.server.DialContext, DisableKeepAlives: true}
	return func(r *http.Request) (*http.Response, error) {
		if !strings.HasPrefix(r.URL.Path, path) {
			return nil, nil
		}
		response, err := transport.RoundTrip(r)
		if err != nil || response.StatusCode/100 != 2 {
			return response, err
		}
		defer response.Body.Close()
		var body map[string]any
		raw, _ := io.ReadAll(response.Body)
		var list []map[string]any
		if json.Unmarshal(raw, &list) == nil {
			for _, one := range list {
				change(one)
			}
			changed, err := json.Marshal(list)
			if err != nil {
				return nil, err
			}
			return answer(response.StatusCode, string(changed))
		}
		if err := json.Unmarshal(raw, &body); err != nil {
			return nil, err
		}
		change(body)
		changed, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		return answer(response.StatusCode, string(changed))
	}
}

// memory is a state.
type memory struct {
	mu    sync.Mutex
	kept  map[string]store.Stream // guarded by mu, as is all that follows
	fail  error
	saves int
}

func (m *memory) LoadStream(name string) (store.Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.kept[name]
	if !ok {
		return store.Stream{}, fs.ErrNotExist
	}
	return r, nil
}

func (m *memory) SaveStream(name string, r store.Stream) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saves++
	if m.fail != nil {
		return m.fail
	}
	if m.kept == nil {
		m.kept = map[string]store.Stream{}
	}
	m.kept[name] = r
	return nil
}

func (m *memory) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

func (m *memory) get() store.Stream {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept["corp"]
}

// waits is what other commands know.
type waits struct {
	mu    sync.Mutex
	until time.Time
}

func (w *waits) Until(string, string) (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.until, nil
}

func (w *waits) Extend(_, _ string, until time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = until
	return nil
}
