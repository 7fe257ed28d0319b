// Package keeper keeps tokens fresh: it decides when each is due, asks the client's gate, and takes the
// answer in.
//
// A keeper owns one token, its schedule and its retry state. To touch it, one posts to its worker; what
// others may know of it is in an immutable [View]. One caveat: a new token is saved before it is handed
// on, so that a crash in between does not make the next process go back to the older one.
package keeper

import (
	"context"
	"log/slog"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/gate"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/logkey"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/internal/worker"
	"github.com/credagent/credagent/token"
)

// Options are what keepers are made with.
type Options struct {
	Save    func(name string, r store.Record) error // keeps what must outlive the process; nil for nothing
	Roll    func() float64                          // jitter
	Deliver func(name string)                       // called when there is a new token
	Changed func()                                  // called after every answer
	Metrics *metrics.Metrics
	Log     *slog.Logger
}

// Keeper keeps one token fresh. It works when something happened or is due, and costs no goroutine in
// between.
type Keeper struct {
	cfg        *config.Token
	client     *gate.Client
	o          Options
	recorder   *recorder   // nil where nothing is remembered
	challenges *challenges // what servers want the next request to ask for
	urgent     atomic.Bool // somebody waits for a refresh: the gate lets this token's request go first

	outdating atomic.Int32 // calls of Outdate that were not taken in yet

	work *worker.Worker
	ctx  context.Context // of the worker, from the start on
	end  context.CancelFunc

	asking  bool             // owned by the worker, as is all that follows
	earlyAt time.Time        // when to refresh to prove a rotated credential, or by order; zero for neither
	orders  []chan<- verdict // refreshes that somebody asked for: the next answer is theirs
	outdate time.Time        // since when the token is known to be no good any more; zero while it is good
	late    late
	oddLife string    // what was last logged of the token's life
	expired time.Time // the end of the token of which it was last logged
	view    *view     // the published one, or what is to be that next

	published atomic.Pointer[view]
}

// late is what came after the end, for the keeper that takes this one's place.
type late struct {
	answer *exchange.Answer
	orders []chan<- verdict
}

// View is what is known of a token at one instant. It is never changed.
type View struct {
	*view
	Gate *policy.Gate // which the token's requests pass
}

// view is what the keeper itself knows at one instant; never changed once published.
type view struct {
	Token      token.Token // zero while there is none
	AcquiredAt time.Time
	Attempts   policy.Attempts
	NextAt     time.Time         // when the next request is planned, whatever the gate
	Answered   bool              // there was an answer at all
	Failure    *exchange.Failure // of the last request; nil after a success
	Refused    *exchange.Failure // why the client uses its fallback, which has had no answer yet; nil for no such thing
	Earlier    store.History     // what a process before this one knew; shown until an answer says otherwise

	outdated bool      // it is known to be no good any more, and is to be replaced
	askedAt  time.Time // when its request was sent; for one of an earlier process, when it came
	assumed  bool      // the server named no life
	again    int       // how often in a row the server handed it out at its end
	requests int
	last     policy.Class
	failedAt time.Time
}

// New returns a keeper of a client's token. It starts nothing.
func New(cfg *config.Token, c *gate.Client, o Options) *Keeper {
	k := &Keeper{cfg: cfg, client: c, o: o, recorder: newRecorder(cfg.Name, o.Save, o.Log), view: &view{}}
	k.challenges = newChallenges(store.Challenge{}, token.Token{}, k.Wake)
	k.work = worker.New(k.step)
	k.publish()
	return k
}

// log is where the keeper logs. It is made for each entry, as there are seldom any.
func (k *Keeper) log() *slog.Logger {
	return k.o.Log.With(logkey.Token, k.cfg.Name, logkey.Client, k.cfg.Client)
}

// View returns what is known now.
func (k *Keeper) View() View { return View{k.published.Load(), k.client.Gate().View()} }

// form is what the token's requests ask for, without what challenges do.
func (k *Keeper) form() url.Values { return k.request().Form() }

// grantTypes are the parameters grant_type of the grants.
var grantTypes = map[config.Grant]string{
	config.GrantJWTBearer:     oauth.JWTBearer,
	config.GrantTokenExchange: oauth.TokenExchange,
}

func (k *Keeper) request() oauth.Request {
	return oauth.Request{
		GrantType: grantTypes[k.cfg.Grant], SubjectTokenType: k.cfg.SubjectTokenType, RequestedTokenType: k.cfg.RequestedTokenType,
		Scopes: k.cfg.Scopes, Audience: k.cfg.Audience, Resources: k.cfg.Resources, Claims: claimsOf(k.cfg), Params: k.cfg.Params,
	}
}

// Start keeps the token until ctx ends. It returns when what was due first is in the gate's line. Only
// the first call does anything.
func (k *Keeper) Start(ctx context.Context) {
	if k.ctx != nil {
		return
	}
	k.ctx, k.end = context.WithCancel(ctx)
	k.work.Wake()
	k.work.Start()
}

// Stop ends the keeper, and waits for what it is doing.
func (k *Keeper) Stop() {
	if k.end != nil {
		k.end()
	}
	k.work.Stop(context.Background())
}

// Close ends saving, and waits for it within ctx. An answer that came after the end is taken in: it may be
// the only one that says why there is no token. It comes after Stop, and the gates' end, where no other
// keeper takes this one's place.
func (k *Keeper) Close(ctx context.Context) {
	k.work.Drain()
	if a := k.late.answer; a != nil {
		k.learn(*a)
		k.save()
	}
	k.recorder.stop(ctx)
}

// ended reports that what is posted is for the keeper that takes this one's place. Only the worker
// asks, or whoever drains it.
func (k *Keeper) ended() bool { return k.ctx != nil && k.ctx.Err() != nil }

// post has f run by the worker, unless the keeper has ended by then.
func (k *Keeper) post(f func()) {
	k.work.Post(func() {
		if !k.ended() {
			f()
		}
	})
}

// step asks for a token if it is time, and sees to the next step.
func (k *Keeper) step() {
	if k.ended() {
		return
	}
	now := time.Now()
	if !k.asking && k.due(now) {
		k.asking = true
		k.client.Gate().Enqueue(gate.Request{
			Ctx: k.ctx, Client: k.client, Token: k.cfg.Name, Due: k.nextAt(), Form: k.nextForm, Config: k.cfg, Held: k.held,
			Sending: k.saveSent, Urgent: &k.urgent, Reply: k.postAnswer,
		})
	}
	k.logExpiry(now)
	k.rest(now)
}

// postAnswer takes the answer to the request under way.
func (k *Keeper) postAnswer(a exchange.Answer) {
	k.work.Post(func() {
		if k.ended() {
			k.late.answer = &a
			return
		}
		k.handleAnswer(a)
	})
}

func (k *Keeper) handleAnswer(a exchange.Answer) {
	k.asking = false
	k.learn(a)
	k.handOn(k.ctx, a)
	if !a.Switched { // else the answer is still to come
		k.replyToOrders()
	}
	k.o.Changed()
}

// due reports whether the token wants a request now.
func (k *Keeper) due(now time.Time) bool {
	planned := k.view.Token.AccessToken.IsZero() || policy.Overdue(now, k.planned())
	return planned && k.view.Attempts.Ready(now)
}

func (k *Keeper) nextAt() time.Time {
	next := k.planned()
	if ready := k.view.Attempts.ReadyAt(); ready.After(next) {
		next = ready
	}
	return next
}

// planned is when the token is to be refreshed: by its schedule, or earlier to prove a credential or
// to answer a challenge.
func (k *Keeper) planned() time.Time {
	at := k.view.Token.RefreshOn
	for _, early := range []time.Time{k.earlyAt, k.outdate, k.challenges.since()} {
		if !early.IsZero() && early.Before(at) {
			at = early
		}
	}
	return at
}

// Wake makes the keeper look at its challenges, and at the clock again.
func (k *Keeper) Wake() {
	k.post(func() {
		if !k.challenges.since().IsZero() {
			k.publish()
			k.save()
		}
	})
}

// Adjust changes the token's retry state by a decision of package policy: a backoff that is reset, or an
// outage that has ended.
func (k *Keeper) Adjust(change func(policy.Attempts) policy.Attempts) {
	k.post(func() {
		k.edit().Attempts = change(k.view.Attempts)
		k.publish()
	})
}

// RefreshWithin makes the keeper refresh its token within a while, at a time of its own choice, if that
// is earlier than planned.
func (k *Keeper) RefreshWithin(d time.Duration) {
	at := time.Now().Add(time.Duration(k.o.Roll() * float64(d)))
	k.post(func() {
		if !k.view.Token.AccessToken.IsZero() && !policy.Overdue(at, k.view.Token.RefreshOn) {
			k.earlyAt = at
			k.publish()
		}
	})
}

// Inherit takes over what an earlier keeper of the same name knew: how often it asked, and the token
// itself where it is what this keeper would ask for. The earlier one was stopped; what it has under way is
// waited for. It comes before the start.
func (k *Keeper) Inherit(was *Keeper) {
	if was.asking {
		was.client.Gate().Finish(was.client)
	}
	was.work.Drain()
	k.recorder = was.recorder // so that what is being saved cannot overwrite what is newer
	defer func() {
		for _, reply := range append(was.orders, was.late.orders...) {
			k.postOrder(reply)
		}
	}()
	if !k.client.Succeeds(was.client) {
		return
	}
	if a := was.late.answer; a != nil { // else its request was still in line
		was.learn(*a)
		if !a.Switched { // else the answer is still to come
			was.replyToOrders()
		}
	}
	if reflect.DeepEqual(k.identity(), was.identity()) {
		view := *was.view // others may read that one
		k.view = &view
		k.challenges, k.expired, k.outdate = was.challenges, was.expired, was.outdate
		k.challenges.serve(k.Wake)
	}
	view := k.edit()
	view.Attempts, view.requests = was.view.Attempts, was.view.requests
	k.publish()
	k.save()
}

// held is the token that there is.
func (k *Keeper) held() secret.Value { return k.published.Load().Token.AccessToken }

// learn takes the meaning of an answer in.
func (k *Keeper) learn(a exchange.Answer) {
	view := k.edit()
	if !a.Sent.IsZero() {
		view.Attempts = view.Attempts.Sent(a.At) // the provider may have sent it later than it was asked to
		view.requests++
	}
	view.Refused = nil
	if a.Switched { // still due, so it is asked for again at once
		view.Refused = a.Failure
		k.publish()
		return
	}
	before, repeated := view.Attempts, a.Failure.Like(view.Failure)
	view.Attempts = view.Attempts.Answered(a.At, a.Outcome, k.o.Roll())
	view.Answered, view.last, view.Failure = true, a.Outcome.Class, a.Failure
	view.Earlier.Failure = store.Failure{}
	if a.Failure != nil {
		view.failedAt = a.At
		k.challenges.failed(a.Failure)
		k.challenges.demand(a.Claims, a.At)
		k.publish()
		if !repeated || policy.ShouldLog(k.view.Attempts.Failures) {
			k.logFailure(a)
		}
		return
	}
	first := view.Token.AccessToken.IsZero()
	k.accept(a)
	k.answerChallenges()
	k.publish()
	k.logSuccess(first)
	k.logLife(a.Grant)
	if before.Failures > 0 {
		k.log().Info("token requests succeed again", logkey.Failures, before.Failures, logkey.For, a.At.Sub(before.FailingSince).Round(time.Second))
	}
}

// handOn has what was learned saved, and hands a new token on. Saving comes first, so that a crash in
// between does not make the next process put the older token back into the sinks; but a state
// directory that does not answer holds no token up for long.
func (k *Keeper) handOn(ctx context.Context, a exchange.Answer) {
	tried := k.save()
	if a.Failure != nil {
		return
	}
	if k.recorder == nil {
		k.o.Deliver(k.cfg.Name)
		return
	}
	timer := time.NewTimer(gate.NoteTimeout)
	defer timer.Stop()
	select {
	case <-tried:
	case <-timer.C:
	case <-ctx.Done():
	}
	k.o.Deliver(k.cfg.Name)
}

// accept makes the grant the current token. Its life counts from when the request was sent.
func (k *Keeper) accept(a exchange.Answer) {
	life := a.Grant.ExpiresIn
	if a.Grant.Assumed && k.cfg.DefaultLifetime > 0 {
		life = k.cfg.DefaultLifetime
	}
	expiry := a.Sent.Add(life)
	scope := a.Grant.Scope
	if scope == "" {
		scope = strings.Join(k.cfg.Scopes, " ") // RFC 6749, 5.1: left out when it is what was asked for
	}
	if !a.Sent.Before(k.earlyAt) { // else it was sent with the old credential and proves nothing
		k.earlyAt = time.Time{}
	}
	view := k.edit()
	view.AcquiredAt, view.askedAt = a.At, a.Sent
	if a.Sent.After(k.outdate) { // else it may have been issued before
		k.outdate, view.outdated = time.Time{}, false
	}
	if k.acceptSame(a, expiry) {
		return
	}
	view.assumed, view.again = a.Grant.Assumed, 0
	view.Token = token.Token{
		Name:        k.cfg.Name,
		AccessToken: a.Grant.AccessToken,
		TokenType:   a.Grant.TokenType,
		Expiry:      expiry,
		RefreshOn:   policy.RefreshAt(a.Sent, expiry, a.Grant.RefreshIn, k.cfg.RefreshAt, k.o.Roll()),
		Scope:       scope,
		ClientID:    k.client.Config().ClientID,
	}
}

// acceptSame takes the current token once more, from a server that hands out one until its end, and
// reports whether that is what came. It is asked again at that end; before it would bring the same.
func (k *Keeper) acceptSame(a exchange.Answer, expiry time.Time) bool {
	view := k.edit()
	if view.assumed || a.Grant.Assumed && !a.Grant.Ended || view.Token.AccessToken != a.Grant.AccessToken {
		return false
	}
	view.again++
	if !a.Grant.Ended {
		view.again = 0
		if off := expiry.Sub(view.Token.Expiry); off.Abs() > policy.SameLife {
			view.Token.Expiry = expiry
		}
	}
	view.Token.RefreshOn = policy.AgainAt(a.Sent, view.Token.Expiry, view.again, k.o.Roll())
	return true
}

// edit returns the view that will be published next.
func (k *Keeper) edit() *view {
	if k.view == k.published.Load() {
		next := *k.view
		k.view = &next
	}
	return k.view
}

func (k *Keeper) publish() {
	view := k.edit()
	view.NextAt = k.nextAt()
	k.published.Store(view)
}

func (k *Keeper) logSuccess(first bool) {
	expiry, refreshAt := stamp(k.view.Token.Expiry), stamp(k.view.Token.RefreshOn)
	if first {
		k.log().Info("token acquired", logkey.Expiry, expiry, logkey.RefreshAt, refreshAt)
	} else {
		k.log().Info("token refreshed", logkey.Expiry, expiry, logkey.RefreshAt, refreshAt)
	}
}

// logLife says once what is wrong with the life that the server names, and what is made of it.
func (k *Keeper) logLife(grant oauth.Grant) {
	odd := grant.Odd
	switch {
	case odd == "" && grant.Assumed:
		odd = "the answer has no expires_in"
	case k.view.again > 0: // at the end of a token that is handed out until then
		return
	}
	if odd != "" && odd != k.oddLife {
		k.log().Warn("life of the token is not as the server should name it", logkey.Reason, odd,
			logkey.For, k.view.Token.Expiry.Sub(k.view.AcquiredAt).Round(time.Second), logkey.Expiry, stamp(k.view.Token.Expiry))
	}
	k.oddLife = odd
}

func (k *Keeper) logFailure(a exchange.Answer) {
	level := slog.LevelWarn
	if a.Failure.Class.Lasting() {
		level = slog.LevelError
	}
	attrs := append(a.Failure.Attributes(), slog.Int(logkey.Attempt, k.view.Attempts.Failures))
	if a.Outcome.HasRetryAfter {
		attrs = append(attrs, slog.Duration(logkey.RetryAfter, a.Outcome.RetryAfter))
	}
	if k.ctx != nil { // else it makes one request, and no other
		attrs = append(attrs, slog.Duration(logkey.RetryIn, k.client.Gate().View().NextRequest(k.view.NextAt, a.At).Sub(a.At).Round(time.Millisecond)))
	}
	if !k.view.Token.AccessToken.IsZero() {
		attrs = append(attrs, slog.String(logkey.Expiry, stamp(k.view.Token.Expiry)))
	}
	k.log().LogAttrs(context.Background(), level, "token request failed", attrs...)
}

// stamp shows an instant as the wall clock has it.
func stamp(t time.Time) string { return t.Round(0).UTC().Format(time.RFC3339) }
