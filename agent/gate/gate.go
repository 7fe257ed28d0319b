// Package gate sends a client's token requests and gives their answers a meaning.
//
// A gate is the server's view of a client: everything with one client_id at one token endpoint passes
// it, never while the server or the gate's own backoff wants none, and one request at a time until the
// server is known to answer. The package owns what a client knows of its endpoint and its credentials,
// and never sees a credential itself: a provider's process authenticates and sends. One caveat: what a
// request's callbacks do holds up the gate, so they must not wait.
package gate

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/internal/worker"
)

// NoteTimeout is how long anything waits for the state directory. One that does not answer must not
// cost a workload its token.
const NoteTimeout = 2 * time.Second

// Gate is where every request of a client passes, the one that is due longest first. It lives on when
// the configuration changes, so that nothing the server asked for is forgotten. It costs no goroutine
// but those of requests that are under way.
type Gate struct {
	key  Key
	set  *Set
	roll func() float64
	idle bool // it is in set.idle; guarded by set.mu

	ctx      context.Context // of requests; from the start on, which is guarded by set.mu
	cancel   context.CancelFunc
	requests sync.WaitGroup // goroutines
	work     *worker.Worker

	line      line            // owned by the worker, as is all that follows
	preparing bool            // the next request is being noted
	turn      func()          // gives back the turn of the one request that is under way after a wait; nil for none
	underWay  map[*Client]int // requests that were sent, or are about to be
	finishing map[*Client][]chan<- struct{}
	state     policy.Gate
	knownTo   time.Time // until when it is known, from an answer or from the log, that the server wants no request

	trouble *Trouble           // why requests are held back; nil while they are not
	told    map[explained]bool // until requests pass again

	published atomic.Pointer[policy.Gate]
	shown     atomic.Pointer[Trouble] // the published trouble
}

// Request is a token's wish for one request.
type Request struct {
	Ctx    context.Context // ends when nobody waits for the answer any more
	Client *Client
	Token  string
	Due    time.Time           // since when the token wants it
	Form   func() url.Values   // called when the request is sent
	Config *config.Token       // the token's, for what the provider adds to the form; nil for client_credentials
	Held   func() secret.Value // the token that there is until the request brings another one; may be nil
	// Sending has the request noted before it is sent; the channel brings how that went, and closes.
	Sending func(gate policy.Gate, at time.Time) (tried <-chan error)
	Urgent  *atomic.Bool          // somebody asks for it now; nil for never
	Once    bool                  // where no request may be sent now, that is the answer
	Reply   func(exchange.Answer) // called when it ended; does not wait
}

func newGate(key Key, s *Set) *Gate {
	g := &Gate{
		key: key, set: s, roll: s.o.Roll(key.ClientID),
		underWay: map[*Client]int{}, finishing: map[*Client][]chan<- struct{}{},
	}
	g.work = worker.New(g.step)
	g.publish()
	return g
}

// Key returns what the gate is to the server.
func (g *Gate) Key() Key { return g.key }

// restore takes over the state that an earlier process saved. It comes before the start.
func (g *Gate) restore(state policy.Gate) {
	g.state = state
	if now := time.Now(); !policy.Passed(now, state.BlockedUntil) {
		g.trouble = elsewhere(now)
	}
	g.publish()
}

// View returns the gate's state now.
func (g *Gate) View() *policy.Gate { return g.published.Load() }

// stop ends what is under way and waits for that.
func (g *Gate) stop() {
	g.set.mu.Lock()
	cancel := g.cancel
	g.set.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	g.work.Stop(context.Background())
	g.requests.Wait()
	g.work.Drain()    // answers that were there nevertheless
	g.requests.Wait() // for the waits that those asked for to be kept
}

// Enqueue puts a request in line.
func (g *Gate) Enqueue(r Request) {
	g.work.Post(func() {
		g.line.push(r)
		g.explainWait(r.Client)
	})
}

// edit has the gate's state changed, and looks at the clock again.
func (g *Gate) edit(change func(policy.Gate) policy.Gate) {
	g.work.Post(func() {
		g.state = change(g.state)
		g.publish()
	})
}

// Expedite lets requests that have become urgent go first.
func (g *Gate) Expedite() { g.work.Post(g.line.sort) }

// Finish waits for a client's requests that are under way, and for their replies.
func (g *Gate) Finish(c *Client) {
	g.set.mu.Lock()
	ctx := g.ctx
	g.set.mu.Unlock()
	if ctx == nil {
		return
	}
	finished := make(chan struct{})
	g.work.Post(func() {
		if g.underWay[c] == 0 {
			close(finished)
			return
		}
		g.finishing[c] = append(g.finishing[c], finished)
	})
	select {
	case <-finished:
	case <-ctx.Done():
		g.requests.Wait()
	}
}

// step sends what may be sent now. Requests are prepared one after another, and under way together.
func (g *Gate) step() {
	first := g.line.first()
	if first == nil || g.preparing || g.ctx.Err() != nil || g.total() >= g.state.MaxUnderWay() {
		return
	}
	if first.urgent {
		g.state = g.state.Expedited()
		g.publish()
	}
	now := time.Now()
	switch {
	case g.state.Open(now):
		g.line.pop()
		g.begin(first.Request)
	case first.Once && !policy.Passed(now, g.waitsUntil()):
		g.line.pop()
		first.Reply(closed(g.state, now))
		g.work.Wake()
	default:
		g.noteWait(now)
		g.work.Retry(g.state.OpensAt().Sub(now))
	}
}

// noteWait publishes a wait that no answer to this process has asked for: nobody else does.
func (g *Gate) noteWait(now time.Time) {
	until := g.state.BlockedUntil
	if policy.Passed(now, until) || !until.After(g.knownTo) {
		return
	}
	g.knownTo = until
	g.publish()
	g.set.o.Waiting()
}

// waitsUntil is how long the gate stays closed, but for the pace of its requests, which is soon over.
func (g *Gate) waitsUntil() time.Time {
	unpaced := g.state
	unpaced.Recent = nil
	return unpaced.OpensAt()
}

func (g *Gate) total() (sum int) {
	for _, n := range g.underWay {
		sum += n
	}
	return sum
}

// begin has a request prepared, away from the worker: the endpoint found, and the request noted.
func (g *Gate) begin(r Request) {
	g.preparing = true
	g.underWay[r.Client]++
	now := time.Now()
	sending, afterWait := g.state.Sent(now), g.state.AfterWait()
	g.requests.Go(func() {
		found := g.find(r.Client, afterWait)
		if found.failed == nil && !found.held && found.key == g.key {
			found.unnoted = g.note(r, sending, now)
		}
		g.work.Post(func() { g.prepared(r, now, found) })
	})
}

// find finds where a client's request goes, unless others know of a wait: it may be one that the issuer
// asked for, who would be asked for the endpoint. After a wait one command of the host at a time finds out
// whether the server answers again: all that waited for it wake at once.
func (g *Gate) find(c *Client, afterWait bool) found {
	waits := g.set.waitsOf(g.ctx, g.key)
	if !policy.Passed(time.Now(), waits) {
		return found{key: g.key, waits: waits, held: true}
	}
	to := c.find(g.ctx)
	if to.failed == nil && c.cfg.Issuer != "" { // to ask may have taken a while
		waits = g.set.waitsOf(g.ctx, to.key)
	}
	if to.failed == nil && to.key == g.key && afterWait && policy.Passed(time.Now(), waits) {
		to.turn = g.set.turn(g.ctx, g.key, c.cfg.RequestTimeout+NoteTimeout)
		waits = g.set.waitsOf(g.ctx, g.key) // whoever had the turn before may have learnt of one
	}
	to.waits = waits
	return to
}

// note has a request noted.
func (g *Gate) note(r Request, sending policy.Gate, now time.Time) error {
	defer g.set.atDisk(g.ctx)()
	return g.waitForNote(r.Sending(sending, now))
}

// waitForNote waits for a request to be noted, but not for long. It returns the reason why there is no note only
// if a request must not be sent without one, or if another process keeps its notes in the same place and may send
// the same requests.
func (g *Gate) waitForNote(tried <-chan error) error {
	timer := time.NewTimer(NoteTimeout)
	defer timer.Stop()
	var err error
	select {
	case err = <-tried:
	case <-timer.C:
		err = fmt.Errorf("there was no answer within %v", NoteTimeout)
		if !g.set.o.StrictNotes {
			g.set.o.Log.Warn("sending a request although the state directory does not answer")
		}
	case <-g.ctx.Done():
	}
	var taken *store.TakenError
	if !g.set.o.StrictNotes && !errors.As(err, &taken) {
		return nil
	}
	return err
}

// prepared sends a request, unless it has become clear meanwhile that it may not be sent, or that it
// belongs to another gate.
func (g *Gate) prepared(r Request, begun time.Time, found found) {
	g.preparing, g.turn = false, found.turn
	now := time.Now()
	switch {
	case g.ctx.Err() != nil:
		g.endTurn()
		g.ended(r.Client)
	case found.failed != nil:
		g.state = g.state.Sent(begun)
		found.failed.Sent = begun
		g.answered(r, *found.failed)
	case found.unnoted != nil:
		g.answered(r, unnoted(found.unnoted, now))
	case found.key != g.key:
		g.ended(r.Client)
		g.set.move(r.Client, found.key).Enqueue(r)
	default:
		g.heed(found.waits, now)
		if found.held || !g.state.Open(now) {
			g.publish()
			g.endTurn()
			g.ended(r.Client)
			g.line.push(r)
			g.explainWait(r.Client)
			return
		}
		g.send(r, found.request, now)
	}
}

func (g *Gate) send(r Request, request provider.Request, now time.Time) {
	g.state = g.state.Sent(now)
	g.requests.Go(func() {
		got := r.Client.exchange(g.ctx, r, request)
		got.Sent = now
		g.work.Post(func() { g.answered(r, got) })
	})
}

// answered learns from an answer, also when nobody waits for it any more: the server has seen the
// request. What the agent's own end cut off is no answer: the keeper that got one as it ended would
// take it for a failure, and remember that.
func (g *Gate) answered(r Request, got exchange.Answer) {
	g.ended(r.Client)
	defer g.endTurn()
	if got.Cut {
		return
	}
	r.Client.count(r.Token, got)
	if got.Failure != nil && got.Failure.Local {
		got.Sent = time.Time{}
	}
	outcome := got.Outcome
	outcome.Sent = got.Sent
	if got.Switched { // not a failure yet: the other credential may do, when the server allows a request
		outcome.ClientWide = false
		if outcome.HasRetryAfter {
			g.learn(outcome, got.At)
			g.noteFailure(r.Client.cfg.Name, got.Failure, got.Outcome, got.At)
		}
		g.publish()
		r.Reply(got)
		return
	}
	since, failing := g.state.FailingSince, g.state.Failures > 0
	g.learn(outcome, got.At)
	g.noteFailure(r.Client.cfg.Name, got.Failure, outcome, got.At)
	g.publish()
	if failing && g.state.Failures == 0 {
		g.set.o.Recovered(g.clients(), since)
	}
	if g.ctx.Err() != nil { // who asked is not there to have it noted
		r.Sending(g.state, got.Sent)
	}
	r.Reply(got)
}

// learn takes the meaning of an answer in, and keeps what the server asked for.
func (g *Gate) learn(o policy.Outcome, at time.Time) {
	before := g.state.BlockedUntil
	g.state = g.state.Answered(at, o, g.roll())
	if until := g.state.BlockedUntil; until.After(before) {
		g.knownTo = until
		turn := g.turn
		g.turn = nil
		g.requests.Go(func() {
			g.set.keepWait(g.key, until)
			if turn != nil {
				turn() // not before the next one can know of the wait
			}
		})
	}
}

// endTurn lets another command of the host find out whether the server answers.
func (g *Gate) endTurn() {
	if turn := g.turn; turn != nil {
		g.turn = nil
		g.requests.Go(turn)
	}
}

// ended takes note that a client's request is not under way any more.
func (g *Gate) ended(c *Client) {
	if g.underWay[c]--; g.underWay[c] > 0 {
		return
	}
	delete(g.underWay, c)
	for _, finished := range g.finishing[c] {
		close(finished)
	}
	delete(g.finishing, c)
}

// isUrgent reports whether somebody asks for the request now, and not only the schedule.
func (r Request) isUrgent() bool { return r.Urgent != nil && r.Urgent.Load() }

// closed is the answer to a request that may not be sent now.
func closed(g policy.Gate, now time.Time) exchange.Answer {
	a := exchange.Answer{At: now}
	left := policy.WholeSeconds(g.OpensAt().Sub(now))
	message := fmt.Sprintf("not asked: the client has to wait, %v more after its last request", left)
	if !policy.Passed(now, g.BlockedUntil) {
		message = fmt.Sprintf("not asked: the client has to wait, the server asked for %v more", left)
	}
	a.Fail(&exchange.Failure{Class: policy.Throttled, Message: message, Local: true}, true)
	return a
}

// unnoted is the answer to a request that was not sent, because it could not be noted before. It says
// nothing of the server, so the client's other tokens are asked for.
func unnoted(why error, now time.Time) exchange.Answer {
	a := exchange.Answer{At: now}
	a.Fail(&exchange.Failure{Class: policy.Transient, Message: fmt.Sprintf("not asked: the request could not be noted before: %v", why), Local: true}, false)
	return a
}
