package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

// history plays random events on one gate and its tokens, and keeps its own, simpler book of what
// was promised.
type history struct {
	t      *testing.T
	rng    *rand.Rand
	now    time.Time
	steps  bool // the wall clock is stepped now and then
	gate   policy.Gate
	tokens []policy.Attempts

	asked     time.Time   // what the server asked for
	askedMost time.Time   // the same with all the jitter there may be
	gateFloor time.Time   // no earlier, by the contract's own numbers
	failedAt  time.Time   // when a request that concerns the client last failed
	floors    []time.Time // the same for each token
	failedAts []time.Time
	all       []time.Time   // when requests were sent
	sent      [][]time.Time // the same for each token
}

// TestHistories names each history by its seed: -run 'TestHistories/seed_17$' plays one again.
func TestHistories(t *testing.T) {
	const histories, events, tokens = 400, 400, 3
	requests, refused := 0, 0
	for seed := range uint64(histories) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			h := &history{
				t: t, rng: rand.New(rand.NewPCG(seed, 0)), now: epoch(),
				tokens: make([]policy.Attempts, tokens), floors: make([]time.Time, tokens), failedAts: make([]time.Time, tokens), sent: make([][]time.Time, tokens),
			}
			if seed%2 == 1 {
				h.now, h.steps = time.Now(), true
			}
			for range events {
				if !h.event() {
					refused++
				}
			}
			requests += len(h.all)
		})
	}
	if requests < histories*events/10 || refused < histories*events/10 {
		t.Errorf("%d requests were sent and %d held back: too few to prove anything", requests, refused)
	}
}

// event plays one event; false is a request that was held back.
func (h *history) event() bool {
	switch n := h.rng.IntN(100); {
	case n < 60:
		return h.request(h.rng.IntN(len(h.tokens)))
	case n < 82:
		h.pass()
	case n < 88:
		return h.press(h.rng.IntN(len(h.tokens)))
	case n < 92:
		h.forgive()
	case n < 96 && h.steps:
		h.step()
	default:
		h.recover(h.now.Add(-time.Duration(h.rng.Int64N(int64(time.Hour)))))
	}
	return true
}

// request sends a request if gate and token allow it, and checks that they had to.
func (h *history) request(i int) bool {
	h.checkOpening(h.gate.Open, h.gate.OpensAt())
	h.checkOpening(h.tokens[i].Ready, h.tokens[i].ReadyAt())
	if !h.gate.Open(h.now) || !h.tokens[i].Ready(h.now) {
		return false
	}
	h.checkAllowed(i)
	at := h.now
	h.all, h.sent[i] = append(h.all, at), append(h.sent[i], at)
	before, recent := h.gate, slices.Clone(h.gate.Recent)
	h.gate = h.gate.Sent(at)
	if !slices.Equal(before.Recent, recent) {
		h.t.Fatal("Sent changed the old gate")
	}
	h.now = h.now.Add(time.Duration(h.rng.Int64N(int64(300 * time.Millisecond))))
	h.answer(i, at, h.outcome())
	return true
}

// press is somebody who asks for a refresh now. What is not held back may be sent, but for the pace;
// what is held back has to be, and for as long as it was told.
func (h *history) press(i int) bool {
	if hold := policy.Holding(h.now, h.gate, h.tokens[i]); hold.For > 0 {
		h.checkHeld(i, hold)
		h.now = h.now.Add(hold.For)
	}
	if hold := policy.Holding(h.now, h.gate, h.tokens[i]); hold != (policy.Hold{}) {
		h.t.Fatalf("held back when that was to be over: %v", hold)
	}
	h.gate, h.tokens[i] = h.gate.Expedited(), h.tokens[i].Expedited()
	h.gateFloor, h.floors[i] = forgiven(h.gateFloor, h.failedAt), forgiven(h.floors[i], h.failedAts[i])
	if !h.gate.Open(h.now) {
		h.now = h.now.Add(policy.PaceWindow)
	}
	if !h.request(i) {
		h.t.Fatal("nothing is held back, but nothing may be sent")
	}
	return true
}

// checkHeld: the book knows of the reason too.
func (h *history) checkHeld(i int, hold policy.Hold) {
	h.t.Helper()
	at := h.now.Add(hold.For)
	known := false
	switch hold.Reason {
	case policy.ServerAsked:
		known = !at.After(h.askedMost)
	case policy.JustFailed:
		known = at.Equal(h.failedAt.Add(5*time.Second)) || at.Equal(h.failedAts[i].Add(5*time.Second))
	case policy.TooMany:
		n := len(h.sent[i]) - 12
		known = n >= 0 && at.Equal(h.sent[i][n].Add(time.Minute))
	}
	if !known {
		h.t.Fatalf("held back by %v without need", hold)
	}
}

// answer lets gate and token learn from an outcome, as the agent does.
func (h *history) answer(i int, sent time.Time, o policy.Outcome) {
	since, failing, blocked := h.gate.FailingSince, h.gate.Failures > 0, h.gate.BlockedUntil
	h.gate = h.gate.Answered(h.now, o, h.r())
	h.tokens[i] = h.tokens[i].Sent(sent).Answered(h.now, o, h.r())
	if h.gate.BlockedUntil.Before(blocked) {
		h.t.Fatalf("an answer %+v shortened the wait that the server asked for", o)
	}
	h.note(i, o)
	h.checkCeilings(i)
	if failing && h.gate.Failures == 0 {
		h.recover(since)
	}
}

// note writes what the contract says of the outcome into the book.
func (h *history) note(i int, o policy.Outcome) {
	h.gateFloor, h.floors[i] = time.Time{}, time.Time{}
	h.failedAt, h.failedAts[i] = time.Time{}, time.Time{}
	if o.HasRetryAfter {
		wait := min(max(o.RetryAfter, 5*time.Second), 24*time.Hour)
		h.asked, h.askedMost = later(h.asked, h.now.Add(wait)), later(h.askedMost, h.now.Add(wait+wait/10))
	}
	if o.Class == policy.Success {
		return
	}
	floor := h.now.Add(max(5*time.Second, o.TimedOut))
	if o.Class.Lasting() {
		floor = h.now.Add(time.Minute)
	}
	h.floors[i], h.failedAts[i] = floor, h.now
	if o.ClientWide {
		h.gateFloor, h.failedAt = floor, h.now
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// checkAllowed holds a request against the book.
func (h *history) checkAllowed(i int) {
	h.t.Helper()
	if h.now.Before(h.asked) {
		h.t.Fatalf("a request %v before the server's Retry-After is over", h.asked.Sub(h.now))
	}
	if h.now.Before(h.gateFloor) || h.now.Before(h.floors[i]) {
		h.t.Fatalf("a request at %v, the gate's floor is %v and the token's %v", h.now, h.gateFloor, h.floors[i])
	}
	h.checkRate(h.all, 4, time.Second)
	h.checkRate(h.sent[i], 12, time.Minute)
}

// checkRate holds a request now, with those before it, against a limit.
func (h *history) checkRate(sent []time.Time, limit int, window time.Duration) {
	h.t.Helper()
	if n := len(sent) - limit; n >= 0 && h.now.Sub(sent[n]) < window {
		h.t.Fatalf("%d requests within %v", limit+1, window)
	}
}

// checkOpening: who is held back knows until when, and is let go then.
func (h *history) checkOpening(open func(time.Time) bool, at time.Time) {
	h.t.Helper()
	if !open(h.now) && !at.After(h.now) {
		h.t.Fatalf("held back at %v until %v, which is not later", h.now, at)
	}
	if at.After(h.now) && !open(at) {
		h.t.Fatalf("held back at %v, which was to be the end of it", at)
	}
}

// checkCeilings: no wait is longer than the contract's longest.
func (h *history) checkCeilings(i int) {
	h.t.Helper()
	if wait := h.gate.BlockedUntil.Sub(h.now); wait > 24*time.Hour*11/10 {
		h.t.Fatalf("blocked for %v", wait)
	}
	if wait := h.gate.RetryAt.Sub(h.now); wait > longestWait(h.gate.Lasting) {
		h.t.Fatalf("the gate waits for %v", wait)
	}
	if wait := h.tokens[i].RetryAt.Sub(h.now); wait > longestWait(h.tokens[i].Class.Lasting()) {
		h.t.Fatalf("the token waits for %v", wait)
	}
}

func longestWait(lasting bool) time.Duration {
	if lasting {
		return 15 * time.Minute
	}
	return 5 * time.Minute
}

// pass lets time go by: a little, much, or until just when something opens.
func (h *history) pass() {
	token := h.tokens[h.rng.IntN(len(h.tokens))]
	switch h.rng.IntN(5) {
	case 0:
		h.now = h.now.Add(time.Duration(h.rng.Int64N(int64(time.Second))))
	case 1:
		h.now = h.now.Add(time.Duration(h.rng.Int64N(int64(20 * time.Minute))))
	case 2:
		h.until(token.ReadyAt())
	default:
		h.until(h.gate.OpensAt())
	}
}

// until lets time go by by the clock that does not step.
func (h *history) until(at time.Time) { h.now = h.now.Add(max(at.Sub(h.now), 0)) }

// forgive is a changed credential or a reload: it ends waits, but for the shortest.
func (h *history) forgive() {
	blocked := h.gate.BlockedUntil
	h.gate = h.gate.WithoutBackoff()
	if !h.gate.BlockedUntil.Equal(blocked) {
		h.t.Fatalf("WithoutBackoff moved the server's instant from %v to %v", blocked, h.gate.BlockedUntil)
	}
	h.gateFloor = forgiven(h.gateFloor, h.failedAt)
	for i := range h.tokens {
		h.tokens[i] = h.tokens[i].WithoutBackoff()
		h.floors[i] = forgiven(h.floors[i], h.failedAts[i])
	}
}

func forgiven(floor, failedAt time.Time) time.Time {
	if least := failedAt.Add(5 * time.Second); least.Before(floor) {
		return least
	}
	return floor
}

// recover is the end of an outage.
func (h *history) recover(since time.Time) {
	for i, token := range h.tokens {
		h.tokens[i] = token.Recovered(h.now, since)
		if h.tokens[i].RetryAt.After(token.RetryAt) {
			h.t.Fatal("the end of an outage lengthened a token's wait")
		}
		if soonest := h.now.Add(5 * time.Second); h.tokens[i].RetryAt != token.RetryAt && h.floors[i].After(soonest) {
			h.floors[i] = soonest
		}
	}
}

// step sets the wall clock. Forward it may end waits of our own, but none that the server asked for.
func (h *history) step() {
	by := time.Duration(h.rng.Int64N(7200)-3600) * time.Second
	h.now = stepped(h.t, h.now, by)
	if by > 0 {
		h.gateFloor = time.Time{}
		clear(h.floors)
	}
}

// r is a random number with a liking for the extremes.
func (h *history) r() float64 {
	switch h.rng.IntN(4) {
	case 0:
		return 0
	case 1:
		return almostOne
	}
	return h.rng.Float64()
}

func (h *history) outcome() policy.Outcome {
	lasting := []policy.Class{policy.Credential, policy.Configuration, policy.Refused}
	waits := []time.Duration{0, time.Second, 4 * time.Second, 30 * time.Second, 10 * time.Minute, 24 * time.Hour, 1 << 62}
	switch h.rng.IntN(10) {
	case 0, 1, 2, 3, 4:
		return succeeded()
	case 5:
		return throttled(waits[h.rng.IntN(len(waits))])
	case 6:
		return failed(policy.Throttled)
	case 7:
		return failed(policy.Transient)
	case 8:
		return timedOut(time.Duration(h.rng.Int64N(int64(2 * time.Minute))))
	}
	o := failed(lasting[h.rng.IntN(len(lasting))])
	o.ClientWide = h.rng.IntN(2) == 0
	if h.rng.IntN(3) == 0 {
		o.HasRetryAfter, o.RetryAfter = true, waits[h.rng.IntN(len(waits))]
	}
	return o
}
