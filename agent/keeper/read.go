package keeper

import (
	"context"
	"time"

	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/gate"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/agent/store"
)

// Status returns what there is to tell of the token.
func (k *Keeper) Status(now time.Time) status.Token {
	v := k.View()
	t := status.Token{
		Name:                k.cfg.Name,
		Client:              k.cfg.Client,
		Valid:               v.Token.ValidAt(now),
		Scope:               v.Token.Scope,
		AcquiredAt:          status.Instant(v.AcquiredAt),
		Expiry:              status.Instant(v.Token.Expiry),
		RefreshAt:           status.Instant(v.Gate.NextRequest(v.NextAt, now)),
		ConsecutiveFailures: v.Attempts.Failures,
		Requests:            v.requests,
		CAE:                 k.cfg.CAE,
	}
	waits, lastAt, last := k.challenges.state()
	t.ChallengePending, t.LastChallengeAt, t.LastChallengeOutcome = waits, status.Instant(lastAt), last
	history := v.history()
	if t.Expiry == nil { // what an earlier process had
		t.AcquiredAt, t.Expiry = status.Instant(history.AcquiredAt), status.Instant(history.Expiry)
	}
	if t.Expiry != nil {
		t.ExpiresOn = t.Expiry.Unix()
	}
	if v.Answered {
		t.LastOutcome = v.last.String()
	}
	if f := history.Failure; f != (store.Failure{}) {
		t.LastOutcome, t.LastError, t.Advice = f.Class.String(), f.Message, f.Advice
		t.LastErrorAt = status.Instant(f.At)
	}
	return t
}

// Probe makes one request, if one may be sent now, and has its outcome saved. It is for a keeper that
// was not started.
func (k *Keeper) Probe(ctx context.Context) *exchange.Failure {
	answers := make(chan exchange.Answer, 2)
	request := gate.Request{
		Ctx: ctx, Client: k.client, Token: k.cfg.Name, Form: k.nextForm, Config: k.cfg, Held: k.held, Sending: k.saveSent, Once: true,
		Reply: func(a exchange.Answer) { answers <- a },
	}
	for {
		k.client.Gate().Enqueue(request)
		select {
		case got := <-answers:
			k.learn(got)
			<-k.save()
			if !got.Switched { // else the other credential is to be tried
				return got.Failure
			}
		case <-ctx.Done():
			return &exchange.Failure{Class: policy.Transient, Message: "the time was up"}
		}
	}
}
