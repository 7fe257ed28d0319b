package agent

import (
	"context"
	"log/slog"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/token"
)

// keeper keeps one token fresh. Its goroutine alone decides about the token; what others may know
// of it is in the published view.
type keeper struct {
	cfg     config.Token
	client  *client
	log     *slog.Logger
	roll    func() float64 // jitter
	deliver func()         // tells the sinks that there is a new token
	changed func()         // told after every answer

	form     url.Values    // without what challenges ask for
	bound    store.Binding // whose token it is, to a later process
	recorder *recorder

	wakeup  chan struct{}
	replies chan answer
	looked  chan struct{}             // closed when run has looked for the first time
	outage  atomic.Pointer[time.Time] // since when an outage lasted that has just ended
	pardon  atomic.Bool               // the token's own backoff is to end
	early   atomic.Pointer[time.Time] // when to refresh before the time planned
	orders  orders                    // refreshes that somebody asks for now
	shown   atomic.Pointer[shown]     // the token as callers get it, if one has asked
	life    life

	challenges *challenges // what resource servers want of the token

	asking    bool      // owned by run, as is all that follows
	proofAt   time.Time // when to refresh to prove a rotated credential, or by order; zero for neither
	attempts  policy.Attempts
	view      tokenView
	published atomic.Pointer[tokenView]
}

// tokenView is what is known of a token at one instant. Views are never changed once published.
type tokenView struct {
	token      token.Token // zero while there is none
	acquiredAt time.Time
	nextAt     time.Time // when the next request is planned
	failures   int
	requests   int
	attempts   policy.Attempts
	answered   bool // there was an answer at all
	last       policy.Class
	failure    *Failure // of the last request; nil after a success
	failedAt   time.Time
}

func newKeeper(cfg config.Token, c *client, recorder *recorder, roll func() float64, log *slog.Logger) *keeper {
	k := &keeper{
		cfg:      cfg,
		client:   c,
		log:      log.With(keyToken, cfg.Name, keyClient, cfg.Client),
		roll:     roll,
		recorder: recorder,
		form: oauth.Request{
			Scopes: cfg.Scopes, Audience: cfg.Audience, Resources: cfg.Resources, Claims: claimsOf(cfg), Params: cfg.Params,
		}.Form(),
		deliver: func() {},
		changed: func() {},
		wakeup:  make(chan struct{}, 1),
		replies: make(chan answer, 1),
		looked:  make(chan struct{}),

		challenges: newChallenges(store.Challenge{}, token.Token{}),
	}
	k.bound = k.binding()
	k.publish()
	return k
}

// run keeps the token until ctx ends.
func (k *keeper) run(ctx context.Context) {
	looked := sync.OnceFunc(func() { close(k.looked) })
	for {
		now := time.Now()
		if !k.asking && k.due(now) {
			k.asking = true
			k.client.gate.request(ask{
				ctx: ctx, client: k.client, token: k.cfg.Name, due: k.nextAt(), form: k.nextForm,
				sending: k.noteSent, urgent: &k.orders.urgent, reply: k.replies,
			})
		}
		looked()
		timer := time.NewTimer(k.untilDue(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case a := <-k.replies:
			k.asking = false
			k.settle(a)
			k.handOn(ctx, a)
			if !a.switched { // else the answer is still to come
				k.fulfil()
			}
			k.changed()
		case <-k.wakeup:
			k.look()
		case <-timer.C:
		}
		timer.Stop()
	}
}

// due reports whether the token wants a request now.
func (k *keeper) due(now time.Time) bool {
	planned := k.view.token.AccessToken.IsZero() || policy.Overdue(now, k.planned())
	return planned && k.attempts.Ready(now)
}

// untilDue is how long to sleep when nothing happens; while a request is under way, for as long as
// that takes.
func (k *keeper) untilDue(now time.Time) time.Duration {
	if k.asking {
		return 1<<63 - 1
	}
	return k.nextAt().Sub(now)
}

func (k *keeper) nextAt() time.Time {
	next := k.planned()
	if ready := k.attempts.ReadyAt(); ready.After(next) {
		next = ready
	}
	return next
}

// planned is when the token is to be refreshed: by its schedule, or earlier to prove a credential or
// to answer a challenge.
func (k *keeper) planned() time.Time {
	at := k.view.token.RefreshOn
	for _, early := range []time.Time{k.proofAt, k.challenges.since()} {
		if !early.IsZero() && early.Before(at) {
			at = early
		}
	}
	return at
}

// wake makes the keeper look at the clock again.
func (k *keeper) wake() {
	select {
	case k.wakeup <- struct{}{}:
	default:
	}
}

// recovered tells the keeper that an outage of its client, begun at since, has ended.
func (k *keeper) recovered(since time.Time) {
	k.outage.Store(&since)
	k.wake()
}

// forgive ends the token's own backoff, because the configuration or the credential changed.
func (k *keeper) forgive() {
	k.pardon.Store(true)
	k.wake()
}

// inherit takes over what an earlier keeper of the same name knew: how often it asked, and the
// token itself where it is what this keeper would ask for. It must have ended.
func (k *keeper) inherit(was *keeper) {
	defer k.orders.inherit(&was.orders)
	if keyOf(k.client.cfg) != keyOf(was.client.cfg) {
		return
	}
	if was.asking { // its request was seen through, but it was not there to hear the answer
		was.client.gate.settle()
		select {
		case a := <-was.replies:
			was.settle(a)
			if !a.switched { // else the answer is still to come
				was.fulfil()
			}
		default: // it was still in line
		}
	}
	k.attempts = was.attempts
	if reflect.DeepEqual(k.form, was.form) {
		k.view, k.challenges = was.view, was.challenges
	}
	k.publish()
	k.note()
}

func (k *keeper) look() {
	if k.pardon.Swap(false) {
		k.attempts = k.attempts.Forgiven()
		k.publish()
	}
	k.earlier()
	if !k.challenges.since().IsZero() {
		k.publish()
		k.note()
	}
	k.obey(time.Now())
	if since := k.outage.Swap(nil); since != nil {
		k.attempts = k.attempts.Recovered(time.Now(), *since)
		k.publish()
	}
}

// settle learns from an answer.
func (k *keeper) settle(a answer) {
	if !a.sent.IsZero() {
		k.attempts = k.attempts.Sent(a.at) // the provider may have sent it later than it was asked to
		k.view.requests++
	}
	if a.switched { // still due, so it is asked for again at once
		k.publish()
		return
	}
	before, repeated := k.attempts, a.failure.like(k.view.failure)
	k.attempts = k.attempts.Answered(a.at, a.outcome, k.roll())
	k.view.answered, k.view.last, k.view.failure = true, a.outcome.Class, a.failure
	if a.failure != nil {
		k.view.failedAt = a.at
		k.challenges.failed(a.failure)
		k.publish()
		if !repeated || policy.Tell(k.attempts.Failures) {
			k.logFailure(a)
		}
		return
	}
	first := k.view.token.AccessToken.IsZero()
	k.accept(a)
	k.answerChallenges()
	k.publish()
	k.logSuccess(first, a.grant.Assumed)
	if before.Failures > 0 {
		k.log.Info("token requests succeed again", keyFailures, before.Failures, keyFor, a.at.Sub(before.FailingSince).Round(time.Second))
	}
}

// handOn has what was learned saved, and hands a new token on. Saving comes first, so that a crash in
// between does not make the next process put the older token back into the sinks; but a state
// directory that does not answer holds no token up for long.
func (k *keeper) handOn(ctx context.Context, a answer) {
	tried := k.note()
	if a.failure != nil {
		return
	}
	timer := time.NewTimer(noteTime)
	defer timer.Stop()
	select {
	case <-tried:
	case <-timer.C:
	case <-ctx.Done():
	}
	k.deliver()
}

// accept makes the grant the current token. Its life counts from when the request was sent.
func (k *keeper) accept(a answer) {
	expiry := a.sent.Add(a.grant.ExpiresIn)
	scope := a.grant.Scope
	if scope == "" {
		scope = strings.Join(k.cfg.Scopes, " ") // RFC 6749, 5.1: left out when it is what was asked for
	}
	if !a.sent.Before(k.proofAt) { // else it was sent with the old credential and proves nothing
		k.proofAt = time.Time{}
	}
	k.view.acquiredAt = a.at
	k.view.token = token.Token{
		Name:        k.cfg.Name,
		AccessToken: a.grant.AccessToken,
		TokenType:   a.grant.TokenType,
		Expiry:      expiry,
		RefreshOn:   policy.RefreshAt(a.sent, expiry, a.grant.RefreshIn, k.cfg.RefreshAt, k.roll()),
		Scope:       scope,
		ClientID:    k.client.cfg.ClientID,
	}
}

func (k *keeper) publish() {
	view := k.view
	view.failures, view.attempts = k.attempts.Failures, k.attempts
	view.nextAt = k.nextAt()
	k.published.Store(&view)
}

func (k *keeper) logSuccess(first, assumed bool) {
	expiry, refreshAt := stamp(k.view.token.Expiry), stamp(k.view.token.RefreshOn)
	if first {
		k.log.Info("token acquired", keyExpiry, expiry, keyRefreshAt, refreshAt)
	} else {
		k.log.Info("token refreshed", keyExpiry, expiry, keyRefreshAt, refreshAt)
	}
	if assumed {
		k.log.Warn("answer has no usable expires_in, assuming five minutes", keyExpiry, expiry)
	}
}

func (k *keeper) logFailure(a answer) {
	level := slog.LevelWarn
	if a.failure.Class.Lasting() {
		level = slog.LevelError
	}
	attrs := append(a.failure.attributes(), slog.Int(keyAttempt, k.attempts.Failures))
	if a.outcome.HasRetryAfter {
		attrs = append(attrs, slog.Duration(keyRetryAfter, a.outcome.RetryAfter))
	} else {
		attrs = append(attrs, slog.Duration(keyRetryIn, k.attempts.RetryAt.Sub(a.at).Round(time.Millisecond)))
	}
	if !k.view.token.AccessToken.IsZero() {
		attrs = append(attrs, slog.String(keyExpiry, stamp(k.view.token.Expiry)))
	}
	k.log.LogAttrs(context.Background(), level, "token request failed", attrs...)
}

// stamp shows an instant as the wall clock has it.
func stamp(t time.Time) string { return t.Round(0).UTC().Format(time.RFC3339) }
