// Package delivery brings sinks up to date when tokens change, and runs the actions after that.
//
// It owns the writing of each sink: writes are retried until they succeed, a file that something else changed is
// written again, and the actions of on_change run after each new content. A sink or an action that hangs delays
// nothing else. One caveat: a command gets only the listed part of the agent's environment, see [Command].
package delivery

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/logkey"
	"github.com/credagent/credagent/internal/worker"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

// writeTimeout is how long a sink may take to get a new token before it counts as not ready, while the token that it
// holds is still good; otherwise every refresh would be a moment of not being ready.
const writeTimeout = 2 * time.Second

// Options are what writers are made with.
type Options struct {
	// Newest returns the newest token of a name, which may be zero, and since when it exists.
	Newest  func(name string) (t token.Token, since time.Time)
	Actions []Action       // run after a change
	Roll    func() float64 // jitter
	Changed func()         // called after every attempt and every action
	Metrics *metrics.Metrics
	Log     *slog.Logger
}

// Writer keeps one sink up to date: it writes when a token changed, and again after a failure. An idle one costs no
// goroutine.
type Writer struct {
	sink sink.Sink
	o    Options
	hook *hook // nil without actions
	work *worker.Worker

	failures  int         // owned by the worker's step
	repeats   repeats     // owned by the worker's step too
	checking  atomic.Bool // the sink is being checked
	published atomic.Pointer[view]
	lastRun   atomic.Pointer[result] // the result of the last actions; nil before
}

// view is a snapshot of a sink's state.
type view struct {
	wrote       tokenSet // its last known content; nil if foreign or unknown
	lastSuccess time.Time
	lastChange  time.Time // when its content was last replaced
	failure     error     // of the last write; nil after a success
	failedAt    time.Time
	retryAt     time.Time
}

// tokenSet is a snapshot of a sink's tokens, sorted by name. Most sinks have one, for which a map would be ten times
// as large.
type tokenSet []namedToken

type namedToken struct {
	name  string
	token token.Token
}

func tokensOf(names []string, lookup sink.Lookup) tokenSet {
	h := make(tokenSet, len(names))
	for i, name := range names {
		h[i].name = name
		h[i].token, _ = lookup(name)
	}
	slices.SortFunc(h, func(a, b namedToken) int { return strings.Compare(a.name, b.name) })
	return h
}

// of returns the token of a name; the zero token if there is none.
func (h tokenSet) of(name string) token.Token {
	i, found := slices.BinarySearchFunc(h, name, func(t namedToken, name string) int { return strings.Compare(t.name, name) })
	if !found {
		return token.Token{}
	}
	return h[i].token
}

// expired reports whether one of the tokens has expired.
func (h tokenSet) expired(now time.Time) bool {
	return slices.ContainsFunc(h, func(t namedToken) bool {
		return !t.token.AccessToken.IsZero() && !t.token.ValidAt(now)
	})
}

// lookup looks up a token for the sink.
func (h tokenSet) lookup(name string) (token.Token, bool) {
	t := h.of(name)
	return t, !t.AccessToken.IsZero()
}

// NewWriter returns the writer of a sink. It starts nothing.
func NewWriter(s sink.Sink, o Options) *Writer {
	w := &Writer{sink: s, o: o}
	w.work = worker.New(w.step)
	w.work.Start()
	if len(o.Actions) > 0 {
		w.hook = newHook(o.Actions, w.recordResult, o.Changed)
		w.hook.after = w.checkAfterActions
	}
	w.published.Store(&view{})
	return w
}

// log returns the writer's logger. It is created for each entry, because entries are rare.
func (w *Writer) log() *slog.Logger { return w.o.Log.With(logkey.Sink, w.sink.Path()) }

// lookup returns the newest token of a name. It is how sinks look tokens up.
func (w *Writer) lookup(name string) (token.Token, bool) {
	t, _ := w.o.Newest(name)
	return t, !t.AccessToken.IsZero()
}

// Start writes the sink if its content is not current.
func (w *Writer) Start() {
	if !w.holds(w.published.Load()) {
		w.Notify()
	}
}

// Notify makes the writer check its tokens, without waiting.
func (w *Writer) Notify() { w.work.Wake() }

// RerunActions runs the sink's actions although its content is unchanged, because the actions of an earlier change
// were missed. It does nothing for an expired token.
func (w *Writer) RerunActions() {
	if !tokensOf(w.sink.Tokens(), w.lookup).expired(time.Now()) {
		w.hook.changed()
	}
}

// ActionsRunning reports whether actions are running. Call it after the sink is known to be written: the actions
// start before that is visible.
func (w *Writer) ActionsRunning() bool { return w.hook.busy() }

// Stop ends retries and actions, and waits, within ctx, for a write under way. It reports whether the actions of a
// change may have been missed.
func (w *Writer) Stop(ctx context.Context) (missed bool) {
	if w.work.Busy() {
		go w.hook.stop(ctx) // its actions have to end, whatever the file system does
	}
	if !w.work.Stop(ctx) && w.work.Busy() {
		w.log().Warn("stopping although the sink's file system does not answer")
	}
	if s, closes := w.sink.(interface{ Close() }); closes {
		s.Close()
	}
	return w.hook.stop(ctx)
}

// step writes, and schedules a retry if that failed.
func (w *Writer) step() {
	err := w.write()
	if err == nil {
		w.failures = 0
		w.o.Changed()
		return
	}
	wait, tried := w.retryIn(err)
	if tried {
		w.log().Warn("writing sink failed, the old content stays", logkey.Error, err, logkey.RetryIn, wait.Round(time.Millisecond), logkey.Attempt, w.failures)
	}
	v := *w.published.Load()
	v.retryAt = time.Now().Add(wait)
	w.published.Store(&v)
	w.work.Retry(wait)
	w.o.Changed()
}

// retryIn returns how long to wait before the next write, and whether the failed one was attempted: an earlier wait
// that still applies is not logged again.
func (w *Writer) retryIn(err error) (wait time.Duration, tried bool) {
	var later *sink.LaterError
	if errors.As(err, &later) && later.Untried {
		return policy.AfterWait(later.Wait, w.o.Roll()), false
	}
	w.failures++
	wait = policy.SinkRetry(w.failures, w.o.Roll())
	if later != nil {
		wait = max(wait, policy.AfterWait(later.Wait, w.o.Roll()))
	}
	return wait, true
}

// write writes the current tokens, unless one has expired, and publishes the sink's resulting state.
func (w *Writer) write() error {
	shows := tokensOf(w.sink.Tokens(), w.lookup)
	if shows.expired(time.Now()) {
		return w.skipExpired(shows)
	}
	outcome, err := w.sink.Write(shows.lookup)
	v := *w.published.Load()
	var missing *sink.MissingTokenError
	switch {
	case errors.As(err, &missing):
		return nil // it is written when the token has been acquired
	case err != nil:
		v.wrote = nil // its content is unknown now
		v.failure = err
		var later *sink.LaterError
		if !errors.As(err, &later) || !later.Untried {
			v.failedAt = time.Now()
			w.o.Metrics.Wrote(w.sink.Path(), "failed")
		}
	default:
		if outcome != sink.Unchanged {
			w.log().Info("sink written", "outcome", outcome.String())
		}
		w.o.Metrics.Wrote(w.sink.Path(), label(outcome))
		v = view{wrote: shows, lastSuccess: time.Now(), lastChange: v.lastChange}
		if outcome == sink.Written {
			v.lastChange = v.lastSuccess
			w.act(shows) // before the view shows that everything is done
		} else {
			w.repeats.byHook = false // its change needed no new content
		}
	}
	w.published.Store(&v)
	return err
}

// skipExpired keeps an expired token out of the file, because the current content may be better. If the file still
// contains it, mode and owner are maintained.
func (w *Writer) skipExpired(expired tokenSet) error {
	v := *w.published.Load()
	holds, err := w.sink.Mend(expired.lookup)
	v.wrote, v.retryAt = nil, time.Time{}
	switch {
	case err != nil:
		v.failure, v.failedAt = err, time.Now()
	case holds:
		v.wrote, v.failure = expired, nil
	}
	w.published.Store(&v)
	return nil // a retry would not renew the token; a new token causes the next write
}

func label(o sink.Outcome) string {
	if o == sink.Unchanged {
		return "unchanged"
	}
	return "written"
}

// Check compares the sink with what was written, and writes it again if something else changed it. It may block as
// long as the sink's file system does. If the previous check has not finished, the sink's content counts as unknown.
func (w *Writer) Check() {
	v := w.published.Load()
	if v.wrote == nil || w.work.Busy() {
		return
	}
	if !w.checking.CompareAndSwap(false, true) {
		w.log().Warn("sink's file system does not answer")
		w.work.Post(w.markNotHeld)
		return
	}
	defer w.checking.Store(false)
	if w.intact(v) {
		return
	}
	if v.wrote.expired(time.Now()) {
		w.log().Warn("sink was changed by somebody else, and left so as its token has expired")
	} else {
		w.log().Warn("sink was changed by somebody else, writing it again")
	}
	w.work.Post(w.markNotHeld)
}

// intact reports whether the sink is unchanged since v was published, or was written since.
func (w *Writer) intact(v *view) bool {
	if w.sink.Untouched() && slices.Equal(v.wrote, tokensOf(w.sink.Tokens(), w.lookup)) {
		return true
	}
	holds, err := w.sink.Holds(v.wrote.lookup)
	return err == nil && holds || w.published.Load() != v
}

// markNotHeld records that the sink does not contain what was written. The worker runs it, and its next step writes
// the sink again.
func (w *Writer) markNotHeld() {
	v := *w.published.Load()
	v.wrote = nil
	w.published.Store(&v)
}

// holds reports whether the sink, when last checked, had the newest of every token.
func (w *Writer) holds(v *view) bool {
	for _, name := range w.sink.Tokens() {
		newest, ok := w.lookup(name)
		if !ok || v.wrote.of(name).AccessToken != newest.AccessToken {
			return false
		}
	}
	return true
}

// Behind reports whether the sink lacks tokens that are there and good. Its last write failed with the error,
// or is still to come.
func (w *Writer) Behind() (lacks bool, err error) {
	v, now := w.published.Load(), time.Now()
	for _, name := range w.sink.Tokens() {
		if t, _ := w.o.Newest(name); !t.ValidAt(now) {
			return false, nil
		}
	}
	if w.holds(v) {
		return false, nil
	}
	return true, v.failure
}

// UpToDate reports whether a sink has the newest tokens, or has valid tokens and newer ones have only just arrived.
func (w *Writer) UpToDate() bool {
	v := w.published.Load()
	return w.holds(v) || w.catchingUp(v)
}

func (w *Writer) catchingUp(v *view) bool {
	now := time.Now()
	for _, name := range w.sink.Tokens() {
		if v.failure != nil || !v.wrote.of(name).ValidAt(now) {
			return false
		}
		newest, since := w.o.Newest(name)
		if v.wrote.of(name).AccessToken != newest.AccessToken && now.Sub(since) > writeTimeout {
			return false
		}
	}
	return true
}

// Status returns the sink's status.
func (w *Writer) Status() status.Sink {
	v := w.published.Load()
	s := status.Sink{
		Path:        w.sink.Path(),
		Tokens:      w.sink.Tokens(),
		Holds:       w.UpToDate(),
		Expired:     tokensOf(w.sink.Tokens(), w.lookup).expired(time.Now()),
		LastSuccess: status.Instant(v.lastSuccess),
		LastChange:  status.Instant(v.lastChange),
		LastErrorAt: status.Instant(v.failedAt),
		RetryAt:     status.Instant(v.retryAt),
		OnChange:    w.onChange(),
	}
	if v.failure != nil {
		s.LastError = v.failure.Error()
	}
	return s
}
