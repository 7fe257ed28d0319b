// Package signals receives Shared Signals: security events that say that a token, a credential or an
// account is no good any more (OpenID SSF 1.0 with CAEP 1.0 and RISC 1.0, as SETs of RFC 8417).
//
// A [Stream] owns one stream at one transmitter: it finds or makes it, verifies it, polls it (RFC 8936),
// checks what comes, and has the agent act by the functions in [Options]. It promises that an event is
// acknowledged only when it is stored, that it is acted upon once, and that no transmitter gets more than
// twelve requests in any minute, nor one before the time that it asked for. One caveat: it only says that
// tokens are outdated; when they are replaced is their keepers' and gates' business.
package signals

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/logkey"
	"github.com/credagent/credagent/token"
)

// Memory keeps what a restart must neither lose nor do twice.
type Memory interface {
	// LoadStream's error wraps fs.ErrNotExist where nothing is stored.
	LoadStream(name string) (store.Stream, error)
	SaveStream(name string, r store.Stream) error
}

// Waits is what all commands on the host know of what servers asked for.
type Waits interface {
	Until(endpoint, clientID string) (time.Time, error)
	Extend(endpoint, clientID string, until time.Time) error
}

// Options are what a stream is made with.
type Options struct {
	Config config.Stream
	Client config.Client // whose token authorizes the requests: they go by its roots, proxy and time limit

	// Token returns the token that authorizes requests.
	Token func(name string) (token.Token, error)
	// Outdate has the tokens of a client replaced that were issued at or before an instant. It reports
	// whether there are any.
	Outdate func(client string, before time.Time) bool
	// Outdated reports whether tokens of a client are yet to be replaced.
	Outdated func(client string) bool
	// CertificateRevoked has a client stop using a certificate. It reports whether the certificate is the
	// client's, and may take as long as its provider does.
	CertificateRevoked func(ctx context.Context, client, serial string) bool
	// AccountDisabled is Outdate for a client that may get no token any more: it asks slowly, for a reason
	// that people are told.
	AccountDisabled func(client, reason string, before time.Time) bool
	// Changed is called when the status is another one; nil for nobody.
	Changed func()

	Memory  Memory // nil for none
	Waits   Waits  // nil for none
	Roll    func() float64
	Metrics *metrics.Metrics
	Log     *slog.Logger
	// Connect makes what requests are sent by; nil for the network.
	Connect func(config.Client) (http.RoundTripper, error)
}

// Stream receives one stream. What follows the published status is owned by its goroutine.
type Stream struct {
	o    Options
	cfg  config.Stream
	log  *slog.Logger
	wake chan struct{}
	end  context.CancelFunc
	done chan struct{}

	published atomic.Pointer[status.Stream]

	link      link
	metadata  metadata
	fetchedAt time.Time // of the metadata; zero while there is none
	keys      keys
	keysAt    time.Time // when the transmitter's keys were last asked for; zero for never
	setup     setup
	polling   polling
	record    store.Stream
	seen      map[string]bool         // what is in record.Seen
	applied   map[effectKey]time.Time // since when the agent knows of an effect
	held      map[string]string       // SETs that wait for newer keys, by jti
	refused   map[string]setError     // what the next poll reports
	unsaved   bool                    // record is newer than what is stored
	saves     int                     // failed ones in a row
	saving    chan error              // brings the end of the save that is under way; nil for none
	verifying verifying               // the state of verification
	received  int                     // events, since the start
	last      status.StreamEvent      // the last one that was acted upon, or not
	problems  map[string]time.Time    // what was logged lately, so that a flood is no full disk
}

// New returns a stream. It starts nothing.
func New(o Options) *Stream {
	s := &Stream{
		o: o, cfg: o.Config, log: o.Log.With(logkey.Stream, o.Config.Name), wake: make(chan struct{}, 1), done: make(chan struct{}),
		link:    newLink(o),
		seen:    map[string]bool{},
		applied: map[effectKey]time.Time{},
		held:    map[string]string{}, refused: map[string]setError{}, problems: map[string]time.Time{},
		polling: polling{most: firstBatch, limit: longPoll},
	}
	s.publish()
	return s
}

// Config returns what the stream is configured as, and the client whose token it uses.
func (s *Stream) Config() (config.Stream, config.Client) { return s.o.Config, s.o.Client }

// Start receives until ctx ends or [Stream.Stop] is called.
func (s *Stream) Start(ctx context.Context) {
	ctx, s.end = context.WithCancel(ctx)
	go s.run(ctx)
}

// Stop ends the stream and waits for it. What was not acknowledged comes again.
func (s *Stream) Stop() {
	if s.end != nil {
		s.end()
		<-s.done
	}
}

// Wake has the stream check whether tokens are newer now. It does not wait.
func (s *Stream) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Status returns what there is to tell of the stream.
func (s *Stream) Status() status.Stream { return *s.published.Load() }

func (s *Stream) run(ctx context.Context) {
	defer close(s.done)
	defer s.link.close()
	s.restore()
	for ctx.Err() == nil {
		wait := s.step(ctx)
		s.publish()
		s.rest(ctx, wait)
	}
}

// rest waits for the time, or for news of a token.
func (s *Stream) rest(ctx context.Context, wait time.Duration) {
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-s.wake:
	case <-timer.C:
	}
}

// step makes at most one request, and returns how long to wait for the next step.
func (s *Stream) step(ctx context.Context) time.Duration {
	s.act(ctx)
	if wait := s.save(); wait > 0 {
		return wait
	}
	now := time.Now()
	t, err := s.o.Token(s.cfg.Token)
	if err != nil {
		s.link.lack(err)
		return noToken
	}
	s.link.use(t.AccessToken)
	if wait := s.link.opensIn(now); wait > 0 {
		return wait
	}
	do, at := s.next(now)
	if wait := at.Sub(now); wait > 0 {
		return wait
	}
	s.polling.asked = false
	failed := do(ctx)
	if !s.polling.asked || failed != nil { // so that one restart after another is held to the ceiling too
		s.record.Recent, s.unsaved = s.link.attempts.Recent, true
	}
	if failed != nil && ctx.Err() == nil {
		s.failed(failed)
	}
	return 0
}

// noToken is how often it is checked whether there is a token, beside the news of it.
const noToken = 30 * time.Second

// failed takes note of a request that did not go well, or brought something that cannot be used.
func (s *Stream) failed(f *failure) {
	s.link.failed(f, time.Now(), s.o.Roll())
	if f.forget {
		s.forget()
	}
	attrs := []slog.Attr{slog.String(logkey.Step, f.step), slog.String(logkey.Class, f.class.String()), slog.String(logkey.Error, f.Error()),
		slog.Int(logkey.Attempt, s.link.gate.Failures), slog.Duration(logkey.RetryIn, s.link.opensIn(time.Now()).Round(time.Millisecond))}
	if f.status != 0 {
		attrs = append(attrs, slog.Int(logkey.Status, f.status))
	}
	if f.advice != "" {
		attrs = append(attrs, slog.String(logkey.Advice, f.advice))
	}
	if !policy.ShouldLog(s.link.gate.Failures) {
		return
	}
	level := slog.LevelWarn
	if f.class.Lasting() {
		level = slog.LevelError
	}
	s.log.LogAttrs(context.Background(), level, "request for signals failed", attrs...)
}

// succeeded takes note of a request that went well.
func (s *Stream) succeeded() {
	if n := s.link.gate.Failures; n > 0 {
		s.log.Info("requests for signals succeed again", logkey.Failures, n)
	}
	s.link.succeeded(time.Now())
}

// healthy reports whether events would reach the agent now, as far as it is known.
func (s *Stream) healthy() bool {
	return s.record.ID != "" && s.setup.ready() && s.link.gate.Failures == 0 && s.link.missing == "" &&
		(s.metadata.StatusURI == "" || s.setup.status == statusEnabled) && s.verifying.sound(s.metadata) && len(s.setup.config.Delivered) > 0 && s.saves == 0
}

func (s *Stream) publish() {
	before := s.published.Load()
	next := status.Stream{
		Name: s.cfg.Name, Issuer: s.cfg.Issuer, Healthy: s.healthy(), ID: s.record.ID, State: s.setup.status,
		Events: slices.Clone(s.setup.delivered), VerifiedAt: status.Instant(s.record.Verified), LastPollAt: status.Instant(s.polling.at),
		Received: s.received, Pending: len(s.record.Pending), LastEvent: s.last.Ref(),
		ConsecutiveFailures: s.link.gate.Failures, RetryAt: status.Instant(s.link.waitsUntil()),
	}
	next.LastError, next.Advice = s.problem()
	s.published.Store(&next)
	if s.o.Changed != nil && (before == nil || !next.Same(*before)) {
		s.o.Changed()
	}
}

// problem is why the stream is not healthy, and what to do about it.
func (s *Stream) problem() (what, advice string) {
	switch f := s.link.failure; {
	case s.link.missing != "":
		return s.link.missing, ""
	case f != nil:
		return f.Error(), f.advice
	case s.saves > 0:
		return "its state cannot be saved, so that nothing is acknowledged", "see the log for what is wrong with the state directory"
	case s.setup.status != "" && s.setup.status != statusEnabled:
		return "the transmitter has the stream " + s.setup.status + s.setup.reason, "ask who runs the transmitter to enable it"
	case s.setup.ready() && len(s.setup.config.Delivered) == 0:
		return "the transmitter delivers none of the events that were asked for", "ask who runs the transmitter for session-revoked"
	case s.setup.ready() && !s.verifying.sound(s.metadata):
		return s.verifying.problem(), "check that nobody else polls the stream"
	}
	return "", ""
}
