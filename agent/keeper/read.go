package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/gate"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/token"
)

// ErrNoToken says that waiting might have helped, but the time was up.
var ErrNoToken = errors.New("no token yet")

// NotYetError says that there is no good token of a name now, and when to ask again.
type NotYetError struct {
	Token   string
	Expired time.Time     // when the last token ended; zero where there never was one
	Cause   string        // why there is no newer one; "" where that is not known
	RetryIn time.Duration // at least a second, in whole seconds: what a Retry-After may say
}

// Error implements error.
func (e *NotYetError) Error() string {
	how := ErrNoToken.Error()
	if !e.Expired.IsZero() {
		how = "it expired at " + stamp(e.Expired) + ", and there is no newer one yet"
	}
	if e.Cause != "" {
		how += ": " + e.Cause
	}
	return fmt.Sprintf("token %q: %s; ask again in %.0fs", e.Token, how, e.RetryIn.Seconds())
}

// Unwrap lets callers branch on [ErrNoToken].
func (e *NotYetError) Unwrap() error { return ErrNoToken }

// Token returns the token if it is good now, else a [*NotYetError].
func (k *Keeper) Token() (token.Token, error) {
	now := time.Now()
	v := k.published.Load()
	if v.Token.ValidAt(now) {
		return v.Token, nil
	}
	e := &NotYetError{Token: k.cfg.Name, Expired: v.Token.Expiry, RetryIn: policy.WholeSeconds(k.NextRequest(v, now).Sub(now))}
	if e.Expired.IsZero() {
		e.Expired = v.history().Expiry
	}
	e.Cause, _ = k.cause(v)
	return token.Token{}, e
}

// NextRequest is when the next request for the token is planned, as far as its gate lets it.
func (k *Keeper) NextRequest(v *View, now time.Time) time.Time {
	next := v.nextAt
	if opens := k.client.Gate().View().OpensAt(); opens.After(next) && opens.After(now) {
		next = opens
	}
	return next
}

// Status returns what there is to tell of the token.
func (k *Keeper) Status(now time.Time) status.Token {
	v := k.published.Load()
	t := status.Token{
		Name:                k.cfg.Name,
		Client:              k.cfg.Client,
		Valid:               v.Token.ValidAt(now),
		Scope:               v.Token.Scope,
		AcquiredAt:          status.Instant(v.AcquiredAt),
		Expiry:              status.Instant(v.Token.Expiry),
		RefreshAt:           status.Instant(k.NextRequest(v, now)),
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
		Ctx: ctx, Client: k.client, Token: k.cfg.Name, Form: k.nextForm, Held: k.held, Sending: k.saveSent, Once: true,
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
