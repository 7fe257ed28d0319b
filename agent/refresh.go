package agent

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
)

// HeldBackError says that a refresh was not made, because no request may be sent now, and when to
// ask again.
type HeldBackError struct {
	Token   string
	Reason  policy.Reason
	RetryIn time.Duration // at least a second, in whole seconds
}

// Error implements error.
func (e *HeldBackError) Error() string {
	why := "the last request has just failed"
	switch e.Reason {
	case policy.ServerAsked:
		why = "the server asked for no requests now"
	case policy.TooMany:
		why = fmt.Sprintf("%d requests were sent within %v", policy.MaxInWindow, policy.Window)
	}
	return fmt.Sprintf("refreshing token %q: %s; ask again in %.0fs", e.Token, why, e.RetryIn.Seconds())
}

// Refresh has a token refreshed now, and waits until ctx ends for how that went. It may override
// credagent's own backoff, but nothing that the server asked for and no ceiling: its error is then a
// [*HeldBackError]. Whoever asks while a request is under way shares its answer. An unknown name is
// [ErrUnknownToken].
func (a *Agent) Refresh(ctx context.Context, name string) (status.Refresh, error) {
	k, known := a.parts.Load().keepers[name]
	if known {
		reply := k.order()
		select {
		case v := <-reply:
			return v.refresh, v.err
		case <-ctx.Done():
		}
		k, known = a.parts.Load().keepers[name] // a reload may have replaced it, or taken it away
	}
	if !known {
		return status.Refresh{}, fmt.Errorf("token %q: %w", name, ErrUnknownToken)
	}
	return k.refreshed(status.Pending), nil
}

// verdict is how an order ends.
type verdict struct {
	refresh status.Refresh
	err     error
}

// orders are the refreshes of one token that somebody asks for.
type orders struct {
	mu      sync.Mutex
	arrived []chan<- verdict // guarded by mu: not looked at yet
	waiting []chan<- verdict // owned by run: the next answer is theirs
	urgent  atomic.Bool      // somebody waits: the gate lets this token's request go first
}

// order asks the keeper for a refresh now. The channel brings how it ended.
func (k *keeper) order() <-chan verdict {
	reply := make(chan verdict, 1)
	k.orders.mu.Lock()
	k.orders.arrived = append(k.orders.arrived, reply)
	k.orders.mu.Unlock()
	k.wake()
	return reply
}

func (o *orders) take() []chan<- verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	arrived := o.arrived
	o.arrived = nil
	return arrived
}

// inherit takes over what an earlier keeper, which has ended, was still asked for.
func (o *orders) inherit(was *orders) {
	left := append(was.waiting, was.take()...)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.arrived = append(o.arrived, left...)
}

// obey brings the next request forward, if one may be sent now. If a request is under way or in
// line already, that is the one.
func (k *keeper) obey(now time.Time) {
	arrived := k.orders.take()
	if len(arrived) == 0 {
		return
	}
	if hold := policy.Holding(now, *k.client.gate.published.Load(), k.view.attempts); hold.For > 0 {
		refused := &HeldBackError{Token: k.cfg.Name, Reason: hold.Reason, RetryIn: wholeSeconds(hold.For)}
		answerAll(arrived, verdict{err: refused})
		return
	}
	k.orders.waiting = append(k.orders.waiting, arrived...)
	k.orders.urgent.Store(true)
	k.edit().attempts = k.view.attempts.Pressed()
	if !k.asking {
		k.proofAt = now
	}
	k.publish()
	k.client.gate.hurry()
}

// fulfil tells whoever asked for a refresh how the request ended that was just settled.
func (k *keeper) fulfil() {
	if len(k.orders.waiting) == 0 {
		return
	}
	k.orders.urgent.Store(false)
	answerAll(k.orders.waiting, verdict{refresh: k.refreshed(k.view.last.String())})
	k.orders.waiting = nil
}

func answerAll(replies []chan<- verdict, v verdict) {
	for _, reply := range replies {
		reply <- v
	}
}

// refreshed is what there is to tell about a refresh with the given outcome.
func (k *keeper) refreshed(outcome string) status.Refresh {
	now := time.Now()
	v := k.published.Load()
	r := status.Refresh{
		Token:     k.cfg.Name,
		Outcome:   outcome,
		Expiry:    status.Instant(v.token.Expiry),
		RefreshAt: status.Instant(k.nextRequest(v, now)),
	}
	if r.Expiry != nil {
		r.ExpiresOn = r.Expiry.Unix()
	}
	if f := v.failure; f != nil && outcome != status.Pending {
		r.Error, r.Advice, r.Refused = f.Error(), f.Advice, f.RefusesClient && !f.Local
	}
	return r
}
