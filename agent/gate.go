package agent

import (
	"context"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/secret"
)

// gateKey is what a gate is to the server: a client_id at one token endpoint. Configured clients
// that are one to the server share the gate.
type gateKey store.GateKey

func keyOf(cfg config.Client) gateKey {
	key := gateKey{ClientID: cfg.ClientID, Server: cfg.TokenURL + cfg.Issuer}
	if cfg.Entra != nil {
		key.Server = cfg.Entra.Authority + "/" + cfg.Entra.Tenant
	}
	return key
}

// gate is where every request of a client passes. Its goroutine sends them one after another, the
// one that is due longest first, and never while the gate is closed. It lives on when the
// configuration changes, so that nothing the server asked for is forgotten.
type gate struct {
	log       *slog.Logger
	roll      func() float64
	recovered func(g *gate, since time.Time) // told when an outage ended
	life      life

	serving  chan struct{} // holds something while a request is under way
	mu       sync.Mutex
	line     line // guarded by mu, as is forgiven: who waits for a request
	forgiven bool // the gate's own backoff is to end
	arrive   chan struct{}

	state     policy.Gate // owned by run
	published atomic.Pointer[policy.Gate]
}

// ask is a token's wish for one request.
type ask struct {
	ctx    context.Context // ends when nobody waits for the answer any more
	client *client
	token  string
	due    time.Time           // since when the token wants it
	form   func() url.Values   // called when the request is sent
	held   func() secret.Value // the token that there is until the request brings another one; may be nil
	// sending has the request noted before it is sent; the channel closes when that was tried.
	sending func(gate policy.Gate, at time.Time) (tried <-chan struct{})
	urgent  *atomic.Bool // somebody asks for it now; nil for never
	reply   func(answer) // told how it ended; does not wait
}

func newGate(log *slog.Logger, roll func() float64, recovered func(*gate, time.Time)) *gate {
	g := &gate{log: log, roll: roll, recovered: recovered, serving: make(chan struct{}, 1), arrive: make(chan struct{}, 1)}
	g.publish()
	return g
}

// request puts an ask in line.
func (g *gate) request(a ask) {
	g.mu.Lock()
	g.line.push(a)
	g.mu.Unlock()
	g.wake()
}

// forgive ends the gate's own backoff, because the configuration or a credential changed.
func (g *gate) forgive() {
	g.mu.Lock()
	g.forgiven = true
	g.mu.Unlock()
	g.wake()
}

// hurry lets asks that have become urgent go first.
func (g *gate) hurry() {
	g.mu.Lock()
	g.line.sort()
	g.mu.Unlock()
	g.wake()
}

// wake makes the goroutine look again at what it waits for.
func (g *gate) wake() {
	select {
	case g.arrive <- struct{}{}:
	default:
	}
}

// run serves the line until ctx ends.
func (g *gate) run(ctx context.Context) {
	for ctx.Err() == nil {
		now := time.Now()
		switch waiting := g.look(); {
		case !waiting:
			g.pause(ctx, nil)
		case !g.state.Open(now):
			timer := time.NewTimer(g.state.OpensAt().Sub(now))
			g.pause(ctx, timer.C)
			timer.Stop()
		default:
			if a, ok := g.next(); ok {
				g.answer(ctx, a)
			}
		}
	}
}

// answer serves an ask. What the agent's own end cut off is no answer: the keeper that got one as it
// ended would take it for a failure, and remember that.
func (g *gate) answer(ctx context.Context, a ask) {
	if got := g.serve(ctx, a); !got.cut {
		a.reply(got)
	}
}

// look takes note of what others want, and reports whether anybody waits.
func (g *gate) look() (waiting bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.forgiven {
		g.forgiven = false
		g.state = g.state.Forgiven()
		g.publish()
	}
	first := g.line.first()
	if first != nil && first.hurry {
		g.state = g.state.Pressed()
		g.publish()
	}
	return first != nil
}

// next takes the first ask that somebody still waits for.
func (g *gate) next() (ask, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	first := g.line.first()
	if first == nil {
		return ask{}, false
	}
	g.line.pop()
	return first.ask, true
}

// isUrgent reports whether somebody asks for the request now, and not only the schedule.
func (a ask) isUrgent() bool { return a.urgent != nil && a.urgent.Load() }

// pause waits for the gate to open, or for a reason to look again.
func (g *gate) pause(ctx context.Context, open <-chan time.Time) {
	select {
	case <-ctx.Done():
	case <-open:
	case <-g.arrive:
	}
}

// serve sends one request and learns from its answer, also when nobody waits for it any more: the
// server has seen it. Only the agent's own end cuts a request off, which teaches nothing.
func (g *gate) serve(ctx context.Context, a ask) answer {
	g.serving <- struct{}{}
	defer func() { <-g.serving }()
	begun := time.Now()
	g.waitForNote(ctx, a.sending(g.state.Sent(begun), begun))
	sent := time.Now()
	g.state = g.state.Sent(sent)
	got := a.client.exchange(ctx, a)
	if got.cut {
		return got
	}
	if got.failure == nil || !got.failure.Local {
		got.sent = sent
	}
	if got.switched { // not a failure yet: the other credential may do, when the server allows a request
		asked := policy.Outcome{Class: got.outcome.Class, HasRetryAfter: got.outcome.HasRetryAfter, RetryAfter: got.outcome.RetryAfter}
		if asked.HasRetryAfter {
			g.state = g.state.Answered(got.at, asked, g.roll())
		}
		g.publish()
		return got
	}
	since, failing := g.state.FailingSince, g.state.Failures > 0
	g.state = g.state.Answered(got.at, got.outcome, g.roll())
	g.publish()
	if got.capped {
		a.client.log.Error("server asked for more than a day, waiting one day", keyError, got.failure)
	}
	if got.unread != "" {
		a.client.log.Warn("header that asks for a wait cannot be read and counts as absent", keyHeader, got.unread)
	}
	if failing && g.state.Failures == 0 {
		g.recovered(g, since)
	}
	if ctx.Err() != nil { // who asked is not there to have it noted
		a.sending(g.state, sent)
	}
	return got
}

// waitForNote waits for a request to be noted, but not for long.
func (g *gate) waitForNote(ctx context.Context, tried <-chan struct{}) {
	timer := time.NewTimer(noteTime)
	defer timer.Stop()
	select {
	case <-tried:
	case <-timer.C:
		g.log.Warn("sending a request although the state directory does not answer")
	case <-ctx.Done():
	}
}

// settle waits for a request that is under way.
func (g *gate) settle() {
	g.serving <- struct{}{}
	defer func() { <-g.serving }()
}

// publish shows the gate's state to whoever reads it.
func (g *gate) publish() {
	state := g.state
	g.published.Store(&state)
}
