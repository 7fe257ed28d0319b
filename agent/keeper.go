package agent

import (
	"context"
	"log/slog"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/internal/token"
)

// keeper keeps one token fresh. It takes a turn when something happened or is due, and costs no
// goroutine in between. The turn alone decides about the token; what others may know of it is in the
// published view.
type keeper struct {
	cfg     config.Token
	client  *client
	logger  *slog.Logger
	roll    func() float64    // jitter
	deliver func(name string) // tells the sinks that there is a new token
	changed func()            // told after every answer

	recorder *recorder // nil where nothing is remembered

	turns   turns
	ctx     context.Context // of the turns, from the start on
	end     context.CancelFunc
	timer   *time.Timer               // for the next turn; owned by it
	alerted atomic.Bool               // something happened
	reply   atomic.Pointer[answer]    // to the request under way
	outage  atomic.Pointer[time.Time] // since when an outage lasted that has just ended
	pardon  atomic.Bool               // the token's own backoff is to end
	early   atomic.Pointer[time.Time] // when to refresh before the time planned
	orders  orders                    // refreshes that somebody asks for now
	shown   atomic.Pointer[shown]     // the token as callers get it, if one has asked

	challenges *challenges // what servers want the next request to ask for

	asking    bool       // owned by the turn, as is all that follows
	proofAt   time.Time  // when to refresh to prove a rotated credential, or by order; zero for neither
	oddLife   string     // what was last logged of the token's life
	view      *tokenView // the published one, or what is to be that next
	published atomic.Pointer[tokenView]
}

// tokenView is what is known of a token at one instant. Views are never changed once published.
type tokenView struct {
	token      token.Token // zero while there is none
	acquiredAt time.Time
	assumed    bool      // the server named no life
	again      int       // how often in a row the server handed it out at its end
	nextAt     time.Time // when the next request is planned
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
		logger:   log,
		roll:     roll,
		recorder: recorder,
		deliver:  func(string) {},
		changed:  func() {},

		view: &tokenView{},
	}
	k.challenges = newChallenges(store.Challenge{}, token.Token{})
	k.turns.do = k.turn
	k.publish()
	return k
}

// log is where the keeper logs. It is made for each entry, as there are seldom any.
func (k *keeper) log() *slog.Logger {
	return k.logger.With(keyToken, k.cfg.Name, keyClient, k.cfg.Client)
}

// form is what the token's requests ask for, without what challenges do.
func (k *keeper) form() url.Values { return k.request().Form() }

func (k *keeper) request() oauth.Request {
	return oauth.Request{
		Scopes: k.cfg.Scopes, Audience: k.cfg.Audience, Resources: k.cfg.Resources, Claims: claimsOf(k.cfg), Params: k.cfg.Params,
	}
}

// start keeps the token until ctx ends. It returns when it was looked at for the first time.
func (k *keeper) start(ctx context.Context) {
	if k.ctx == nil {
		k.ctx, k.end = context.WithCancel(ctx)
	}
	k.turns.start()
}

// stop ends the turns and waits for the one that is under way.
func (k *keeper) stop() {
	if k.end != nil {
		k.end()
	}
	k.turns.stop()
	if k.timer != nil {
		k.timer.Stop()
	}
}

// turn learns what is new, asks for a token if it is time, and sees to the next turn.
func (k *keeper) turn() {
	if k.ctx.Err() != nil {
		return
	}
	if a := k.reply.Swap(nil); a != nil {
		k.hear(*a)
	}
	if k.alerted.Swap(false) {
		k.look()
	}
	now := time.Now()
	if !k.asking && k.due(now) {
		k.asking = true
		k.client.gate.request(ask{
			ctx: k.ctx, client: k.client, token: k.cfg.Name, due: k.nextAt(), form: k.nextForm, held: k.held,
			sending: k.noteSent, urgent: &k.orders.urgent, reply: k.answered,
		})
	}
	k.rest(k.untilDue(now))
}

// answered is told how the request ended.
func (k *keeper) answered(a answer) {
	k.reply.Store(&a)
	k.turns.call()
}

// hear takes an answer in.
func (k *keeper) hear(a answer) {
	k.asking = false
	k.settle(a)
	k.handOn(k.ctx, a)
	if !a.switched { // else the answer is still to come
		k.fulfil()
	}
	k.changed()
}

// rest has the next turn come after a while.
func (k *keeper) rest(wait time.Duration) {
	if k.timer == nil {
		k.timer = time.AfterFunc(wait, k.turns.call)
		return
	}
	k.timer.Reset(wait)
}

// due reports whether the token wants a request now.
func (k *keeper) due(now time.Time) bool {
	planned := k.view.token.AccessToken.IsZero() || policy.Overdue(now, k.planned())
	return planned && k.view.attempts.Ready(now)
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
	if ready := k.view.attempts.ReadyAt(); ready.After(next) {
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

// wake makes the keeper look at what happened, and at the clock again.
func (k *keeper) wake() {
	k.alerted.Store(true)
	k.turns.call()
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
		if a := was.reply.Swap(nil); a != nil { // else it was still in line
			was.settle(*a)
			if !a.switched { // else the answer is still to come
				was.fulfil()
			}
		}
	}
	if reflect.DeepEqual(k.form(), was.form()) {
		view := *was.view // others may read that one
		k.view = &view
		if k.challenges != nil && was.challenges != nil {
			k.challenges = was.challenges
		}
	}
	k.edit().attempts = was.view.attempts
	k.publish()
	k.note()
}

func (k *keeper) look() {
	if k.pardon.Swap(false) {
		k.edit().attempts = k.view.attempts.Forgiven()
		k.publish()
	}
	k.earlier()
	if !k.challenges.since().IsZero() {
		k.publish()
		k.note()
	}
	k.obey(time.Now())
	if since := k.outage.Swap(nil); since != nil {
		k.edit().attempts = k.view.attempts.Recovered(time.Now(), *since)
		k.publish()
	}
}

// held is the token that there is.
func (k *keeper) held() secret.Value { return k.published.Load().token.AccessToken }

// settle learns from an answer.
func (k *keeper) settle(a answer) {
	view := k.edit()
	if !a.sent.IsZero() {
		view.attempts = view.attempts.Sent(a.at) // the provider may have sent it later than it was asked to
		view.requests++
	}
	if a.switched { // still due, so it is asked for again at once
		k.publish()
		return
	}
	before, repeated := view.attempts, a.failure.like(view.failure)
	view.attempts = view.attempts.Answered(a.at, a.outcome, k.roll())
	view.answered, view.last, view.failure = true, a.outcome.Class, a.failure
	if a.failure != nil {
		view.failedAt = a.at
		k.challenges.failed(a.failure)
		k.challenges.demand(a.claims, a.at)
		k.publish()
		if !repeated || policy.Tell(k.view.attempts.Failures) {
			k.logFailure(a)
		}
		return
	}
	first := view.token.AccessToken.IsZero()
	k.accept(a)
	k.answerChallenges()
	k.publish()
	k.logSuccess(first)
	k.logLife(a.grant)
	if before.Failures > 0 {
		k.log().Info("token requests succeed again", keyFailures, before.Failures, keyFor, a.at.Sub(before.FailingSince).Round(time.Second))
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
	if k.recorder == nil {
		k.deliver(k.cfg.Name)
		return
	}
	timer := time.NewTimer(noteTime)
	defer timer.Stop()
	select {
	case <-tried:
	case <-timer.C:
	case <-ctx.Done():
	}
	k.deliver(k.cfg.Name)
}

// accept makes the grant the current token. Its life counts from when the request was sent.
func (k *keeper) accept(a answer) {
	life := a.grant.ExpiresIn
	if a.grant.Assumed && k.cfg.DefaultLifetime > 0 {
		life = k.cfg.DefaultLifetime
	}
	expiry := a.sent.Add(life)
	scope := a.grant.Scope
	if scope == "" {
		scope = strings.Join(k.cfg.Scopes, " ") // RFC 6749, 5.1: left out when it is what was asked for
	}
	if !a.sent.Before(k.proofAt) { // else it was sent with the old credential and proves nothing
		k.proofAt = time.Time{}
	}
	view := k.edit()
	view.acquiredAt = a.at
	if k.acceptSame(a, expiry) {
		return
	}
	view.assumed, view.again = a.grant.Assumed, 0
	view.token = token.Token{
		Name:        k.cfg.Name,
		AccessToken: a.grant.AccessToken,
		TokenType:   a.grant.TokenType,
		Expiry:      expiry,
		RefreshOn:   policy.RefreshAt(a.sent, expiry, a.grant.RefreshIn, k.cfg.RefreshAt, k.roll()),
		Scope:       scope,
		ClientID:    k.client.cfg.ClientID,
	}
}

// acceptSame takes the current token once more, from a server that hands out one until its end, and
// reports whether that is what came. It is asked again at that end; before it would bring the same.
func (k *keeper) acceptSame(a answer, expiry time.Time) bool {
	view := k.edit()
	if view.assumed || a.grant.Assumed && !a.grant.Ended || view.token.AccessToken != a.grant.AccessToken {
		return false
	}
	view.again++
	if !a.grant.Ended {
		view.again = 0
		if off := expiry.Sub(view.token.Expiry); off.Abs() > policy.SameLife {
			view.token.Expiry = expiry
		}
	}
	view.token.RefreshOn = policy.AgainAt(a.sent, view.token.Expiry, view.again, k.roll())
	return true
}

// edit returns the view that will be published next.
func (k *keeper) edit() *tokenView {
	if k.view == k.published.Load() {
		next := *k.view
		k.view = &next
	}
	return k.view
}

func (k *keeper) publish() {
	view := k.edit()
	view.nextAt = k.nextAt()
	k.published.Store(view)
}

func (k *keeper) logSuccess(first bool) {
	expiry, refreshAt := stamp(k.view.token.Expiry), stamp(k.view.token.RefreshOn)
	if first {
		k.log().Info("token acquired", keyExpiry, expiry, keyRefreshAt, refreshAt)
	} else {
		k.log().Info("token refreshed", keyExpiry, expiry, keyRefreshAt, refreshAt)
	}
}

// logLife says once what is wrong with the life that the server names, and what is made of it.
func (k *keeper) logLife(grant oauth.Grant) {
	odd := grant.Odd
	switch {
	case odd == "" && grant.Assumed:
		odd = "the answer has no expires_in"
	case k.view.again > 0: // at the end of a token that is handed out until then
		return
	}
	if odd != "" && odd != k.oddLife {
		k.log().Warn("life of the token is not as the server should name it", keyReason, odd,
			keyFor, k.view.token.Expiry.Sub(k.view.acquiredAt).Round(time.Second), keyExpiry, stamp(k.view.token.Expiry))
	}
	k.oddLife = odd
}

func (k *keeper) logFailure(a answer) {
	level := slog.LevelWarn
	if a.failure.Class.Lasting() {
		level = slog.LevelError
	}
	attrs := append(a.failure.attributes(), slog.Int(keyAttempt, k.view.attempts.Failures))
	if a.outcome.HasRetryAfter {
		attrs = append(attrs, slog.Duration(keyRetryAfter, a.outcome.RetryAfter))
	}
	if wait := k.view.attempts.RetryAt.Sub(a.at); wait > a.outcome.RetryAfter {
		attrs = append(attrs, slog.Duration(keyRetryIn, k.view.attempts.RetryAt.Sub(a.at).Round(time.Millisecond)))
	}
	if !k.view.token.AccessToken.IsZero() {
		attrs = append(attrs, slog.String(keyExpiry, stamp(k.view.token.Expiry)))
	}
	k.log().LogAttrs(context.Background(), level, "token request failed", attrs...)
}

// stamp shows an instant as the wall clock has it.
func stamp(t time.Time) string { return t.Round(0).UTC().Format(time.RFC3339) }
