package keeper

import (
	"context"
	"fmt"
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

// verdict is how an order ends.
type verdict struct {
	refresh status.Refresh
	err     error
}

// Refresh has the token refreshed now, and waits until ctx ends for how that went; then the outcome is
// [status.Pending]. It may override the token's own backoff, but nothing that the server asked for and
// no ceiling: its error is then a [*HeldBackError]. Whoever asks while a request is under way shares
// its answer.
func (k *Keeper) Refresh(ctx context.Context) (status.Refresh, error) {
	reply := make(chan verdict, 1)
	k.postOrder(reply)
	select {
	case v := <-reply:
		return v.refresh, v.err
	case <-ctx.Done():
		return k.Pending(), nil
	}
}

// Pending is what there is to tell of a refresh that has no answer yet.
func (k *Keeper) Pending() status.Refresh { return k.refreshed(status.Pending) }

// postOrder asks for a refresh now. The channel brings how it ended.
func (k *Keeper) postOrder(reply chan<- verdict) {
	k.work.Post(func() {
		if k.ended() {
			k.late.orders = append(k.late.orders, reply)
			return
		}
		k.startOrder(reply, time.Now())
	})
}

// startOrder brings the next request forward, if one may be sent now. If a request is under way or in
// line already, that is the one.
func (k *Keeper) startOrder(reply chan<- verdict, now time.Time) {
	if hold := policy.Holding(now, *k.client.Gate().View(), k.view.Attempts); hold.For > 0 {
		reply <- verdict{err: &HeldBackError{Token: k.cfg.Name, Reason: hold.Reason, RetryIn: policy.WholeSeconds(hold.For)}}
		return
	}
	k.orders = append(k.orders, reply)
	k.urgent.Store(true)
	k.edit().Attempts = k.view.Attempts.Expedited()
	if !k.asking {
		k.earlyAt = now
	}
	k.publish()
	k.client.Gate().Expedite()
}

// replyToOrders tells whoever asked for a refresh how the last request ended.
func (k *Keeper) replyToOrders() {
	if len(k.orders) == 0 {
		return
	}
	k.urgent.Store(false)
	v := verdict{refresh: k.refreshed(k.view.last.String())}
	for _, reply := range k.orders {
		reply <- v
	}
	k.orders = nil
}

// refreshed is what there is to tell about a refresh with the given outcome.
func (k *Keeper) refreshed(outcome string) status.Refresh {
	now := time.Now()
	v := k.published.Load()
	r := status.Refresh{
		Token:     k.cfg.Name,
		Outcome:   outcome,
		Expiry:    status.Instant(v.Token.Expiry),
		RefreshAt: status.Instant(k.NextRequest(v, now)),
	}
	if r.Expiry != nil {
		r.ExpiresOn = r.Expiry.Unix()
	}
	if f := v.Failure; f != nil && outcome != status.Pending {
		r.Error, r.Advice, r.Refused = f.Error(), f.Advice, f.RefusesClient && !f.Local
	}
	return r
}
