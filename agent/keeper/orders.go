package keeper

import (
	"context"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
)

// verdict is how an order ends.
type verdict struct {
	outcome string
	view    View        // of after the answer
	hold    policy.Hold // why no request was made; none where one was
}

// Refresh has the token refreshed now, and waits until ctx ends for how that went; then the outcome is
// [status.Pending]. It may override the token's own backoff, but nothing that the server asked for and
// no ceiling: then it says what holds the request back. Whoever asks while a request is under way shares
// its answer.
func (k *Keeper) Refresh(ctx context.Context) (outcome string, v View, hold policy.Hold) {
	reply := make(chan verdict, 1)
	k.postOrder(reply)
	select {
	case v := <-reply:
		return v.outcome, v.view, v.hold
	case <-ctx.Done():
		return status.Pending, k.View(), policy.Hold{}
	}
}

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
		reply <- verdict{hold: hold}
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
	v := verdict{outcome: k.view.last.String(), view: k.View()}
	for _, reply := range k.orders {
		reply <- v
	}
	k.orders = nil
}
