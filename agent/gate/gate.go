// Package gate sends a client's token requests and gives their answers a meaning.
//
// A gate is the server's view of a client: everything with one client_id at one token endpoint passes
// it, one request at a time and never while the server or the gate's own backoff wants none. It owns
// what a client knows of its endpoint and its credentials, and never sees a credential itself: a
// provider's process authenticates and sends. One caveat: what a request's callbacks do holds up the
// gate, so they must not wait.
package gate

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
	"github.com/credagent/credagent/internal/logkey"
)

// NoteTimeout is how long anything waits for the state directory. One that does not answer must not
// cost a workload its token.
const NoteTimeout = 2 * time.Second

// Key is what a gate is to the server: a client_id at one token endpoint. Configured clients that are
// one to the server share the gate.
type Key store.GateKey

// KeyOf returns the key of a client's gate.
func KeyOf(cfg config.Client) Key {
	key := Key{ClientID: cfg.ClientID, Server: cfg.TokenURL + cfg.Issuer}
	if cfg.Entra != nil {
		key.Server = cfg.Entra.Authority + "/" + cfg.Entra.Tenant
	}
	return key
}

// Gate is where every request of a client passes. Its goroutine sends them one after another, the
// one that is due longest first, and never while the gate is closed. It lives on when the
// configuration changes, so that nothing the server asked for is forgotten.
type Gate struct {
	log       *slog.Logger
	roll      func() float64
	recovered func(g *Gate, since time.Time) // called when an outage ended

	cancel context.CancelFunc // of run; nil before the start
	ended  sync.WaitGroup

	serving      chan struct{} // holds something while a request is under way
	mu           sync.Mutex
	line         line // guarded by mu, as is resetBackoff: who waits for a request
	resetBackoff bool // the gate's own backoff is to end
	arrived      chan struct{}

	state     policy.Gate // owned by run
	published atomic.Pointer[policy.Gate]
}

// Request is a token's wish for one request.
type Request struct {
	Ctx    context.Context // ends when nobody waits for the answer any more
	Client *Client
	Token  string
	Due    time.Time         // since when the token wants it
	Form   func() url.Values // called when the request is sent
	// Sending has the request noted before it is sent; the channel closes when that was tried.
	Sending func(gate policy.Gate, at time.Time) (tried <-chan struct{})
	Urgent  *atomic.Bool // somebody asks for it now; nil for never
	Reply   func(Answer) // called when it ended; does not wait
}

// New returns a gate. It starts nothing. Roll is the source of jitter, and recovered is called when an
// outage ended that had begun at since.
func New(log *slog.Logger, roll func() float64, recovered func(g *Gate, since time.Time)) *Gate {
	g := &Gate{log: log, roll: roll, recovered: recovered, serving: make(chan struct{}, 1), arrived: make(chan struct{}, 1)}
	g.publish()
	return g
}

// Restore takes over the state that an earlier process saved. It comes before the start.
func (g *Gate) Restore(state policy.Gate) {
	g.state = state
	g.publish()
}

// View returns the gate's state now.
func (g *Gate) View() *policy.Gate { return g.published.Load() }

// Start starts the gate's goroutine, once, however often it is called. It ends with ctx.
func (g *Gate) Start(ctx context.Context) {
	if g.cancel != nil {
		return
	}
	ctx, g.cancel = context.WithCancel(ctx)
	g.ended.Go(func() { g.run(ctx) })
}

// Stop ends the goroutine and waits for it.
func (g *Gate) Stop() {
	if g.cancel != nil {
		g.cancel()
	}
	g.ended.Wait()
}

// Enqueue puts a request in line.
func (g *Gate) Enqueue(r Request) {
	g.mu.Lock()
	g.line.push(r)
	g.mu.Unlock()
	g.Wake()
}

// ResetBackoff ends the gate's own backoff, because the configuration or a credential changed. What
// the server asked for stays.
func (g *Gate) ResetBackoff() {
	g.mu.Lock()
	g.resetBackoff = true
	g.mu.Unlock()
	g.Wake()
}

// Expedite lets requests that have become urgent go first.
func (g *Gate) Expedite() {
	g.mu.Lock()
	g.line.sort()
	g.mu.Unlock()
	g.Wake()
}

// Wake makes the goroutine look again at the clock and at what it waits for.
func (g *Gate) Wake() {
	select {
	case g.arrived <- struct{}{}:
	default:
	}
}

// run serves the line until ctx ends.
func (g *Gate) run(ctx context.Context) {
	for ctx.Err() == nil {
		now := time.Now()
		switch waiting := g.update(); {
		case !waiting:
			g.pause(ctx, nil)
		case !g.state.Open(now):
			timer := time.NewTimer(g.state.OpensAt().Sub(now))
			g.pause(ctx, timer.C)
			timer.Stop()
		default:
			if r, ok := g.next(); ok {
				g.serve(ctx, r)
			}
		}
	}
}

// serve sends a request and replies. What the agent's own end cut off is no answer: the keeper that
// got one as it ended would take it for a failure, and remember that.
func (g *Gate) serve(ctx context.Context, r Request) {
	g.serving <- struct{}{}
	defer func() { <-g.serving }()
	if got := g.Do(ctx, r); !got.cut {
		r.Reply(got)
	}
}

// update takes note of what others want, and reports whether anybody waits.
func (g *Gate) update() (waiting bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.resetBackoff {
		g.resetBackoff = false
		g.state = g.state.Forgiven()
		g.publish()
	}
	first := g.line.first()
	if first != nil && first.urgent {
		g.state = g.state.Pressed()
		g.publish()
	}
	return first != nil
}

// next takes the first request that somebody still waits for.
func (g *Gate) next() (Request, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	first := g.line.first()
	if first == nil {
		return Request{}, false
	}
	g.line.pop()
	return first.Request, true
}

// isUrgent reports whether somebody asks for the request now, and not only the schedule.
func (r Request) isUrgent() bool { return r.Urgent != nil && r.Urgent.Load() }

// pause waits for the gate to open, or for a reason to look again.
func (g *Gate) pause(ctx context.Context, open <-chan time.Time) {
	select {
	case <-ctx.Done():
	case <-open:
	case <-g.arrived:
	}
}

// Do sends one request and learns from its answer, also when nobody waits for it any more: the server
// has seen it. Only the agent's own end cuts a request off, which teaches nothing. It is the gate's
// goroutine that calls it, or whoever has a gate that was not started.
func (g *Gate) Do(ctx context.Context, r Request) Answer {
	begun := time.Now()
	g.waitForNote(ctx, r.Sending(g.state.Sent(begun), begun))
	sent := time.Now()
	g.state = g.state.Sent(sent)
	got := r.Client.exchange(ctx, r)
	if got.cut {
		return got
	}
	if got.Failure == nil || !got.Failure.Local {
		got.Sent = sent
	}
	if got.Switched { // not a failure yet: the other credential may do
		g.publish()
		return got
	}
	since, failing := g.state.FailingSince, g.state.Failures > 0
	g.state = g.state.Answered(got.At, got.Outcome, g.roll())
	g.publish()
	if got.capped {
		r.Client.log.Error("server asked for more than a day, waiting one day", logkey.Error, got.Failure)
	}
	if failing && g.state.Failures == 0 {
		g.recovered(g, since)
	}
	if ctx.Err() != nil { // who asked is not there to have it noted
		r.Sending(g.state, sent)
	}
	return got
}

// waitForNote waits for a request to be noted, but not for long.
func (g *Gate) waitForNote(ctx context.Context, tried <-chan struct{}) {
	timer := time.NewTimer(NoteTimeout)
	defer timer.Stop()
	select {
	case <-tried:
	case <-timer.C:
		g.log.Warn("sending a request although the state directory does not answer")
	case <-ctx.Done():
	}
}

// Finish waits for a request that is under way, and for its reply.
func (g *Gate) Finish() {
	g.serving <- struct{}{}
	defer func() { <-g.serving }()
}

// publish shows the gate's state to whoever reads it.
func (g *Gate) publish() {
	state := g.state
	g.published.Store(&state)
}
