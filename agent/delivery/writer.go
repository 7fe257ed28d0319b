// Package delivery brings sinks up to date when tokens change, and does what is wanted after that.
//
// It owns the writing of each sink: writes are retried until they succeed, a file that somebody else
// changed is written again, and the actions of on_change follow each new content. A sink that hangs, or
// an action, holds up nothing else. One caveat: a command sees nothing of the agent's environment but
// what is named here, see [Command].
package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/logkey"
	"github.com/credagent/credagent/internal/token"
	"github.com/credagent/credagent/internal/worker"
	"github.com/credagent/credagent/sink"
)

// writeTimeout is how long a sink may take to get a new token, while the one that it holds is still
// good, before that is worth a word: every refresh would be a moment of not being ready.
const writeTimeout = 2 * time.Second

// Sink is where workloads read tokens.
type Sink interface {
	Path() string
	Tokens() []string
	// Write brings the sink to what lookup says. After an error the old content stays. It may
	// block as long as its file system does.
	Write(lookup sink.Lookup) (sink.Outcome, error)
	// Mend repairs mode, owner and readers of a sink whose content is what lookup says already, and
	// leaves any other alone. It reports whether the sink then is as Write would leave it.
	Mend(lookup sink.Lookup) (holds bool, err error)
	// Holds reports whether the sink is as Write would leave it.
	Holds(lookup sink.Lookup) (bool, error)
	// Untouched reports that it cannot have changed since Holds said so. It may always say no.
	Untouched() bool
}

// Error says which sink could not be written although its tokens are there, and why.
type Error struct {
	Sink string
	Err  error // nil when the time was up
}

// Error implements error.
func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("writing %q: the time was up", e.Sink)
	}
	return e.Err.Error()
}

// Options are what writers are made with.
type Options struct {
	// Newest returns the newest token of a name, which may be zero, and since when there is that.
	Newest  func(name string) (t token.Token, since time.Time)
	Actions []Action       // what is done after a change
	Roll    func() float64 // jitter
	Changed func()         // called after every attempt and every action
	Metrics *metrics.Metrics
	Log     *slog.Logger
}

// Writer brings one sink up to date: when a token changed, and again after a failure. An idle one
// costs no goroutine.
type Writer struct {
	sink Sink
	o    Options
	hook *hook // nil without actions
	work *worker.Worker

	failures  int         // owned by the worker's step
	repeats   repeats     // owned by the worker's step, too
	checking  atomic.Bool // the sink is being looked at
	published atomic.Pointer[view]
	lastRun   atomic.Pointer[result] // how the last actions went; nil before
}

// view is what is known of a sink at one instant.
type view struct {
	wrote       tokenSet // what it was last seen to hold; nil if that is nothing of ours, or not known
	lastSuccess time.Time
	lastChange  time.Time // when its content was last replaced
	failure     error     // of the last write; nil after a success
	failedAt    time.Time
	retryAt     time.Time
}

// tokenSet are tokens at one instant by the names under which a sink shows them, sorted by these. Most
// sinks show one, for which a map would be ten times as large.
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

// of returns the token of a name; the zero one where there is none.
func (h tokenSet) of(name string) token.Token {
	i, found := slices.BinarySearchFunc(h, name, func(t namedToken, name string) int { return strings.Compare(t.name, name) })
	if !found {
		return token.Token{}
	}
	return h[i].token
}

// expired reports whether one of the tokens was good once and is not any more.
func (h tokenSet) expired(now time.Time) bool {
	return slices.ContainsFunc(h, func(t namedToken) bool {
		return !t.token.AccessToken.IsZero() && !t.token.ValidAt(now)
	})
}

// lookup is how a sink looks the tokens up.
func (h tokenSet) lookup(name string) (token.Token, bool) {
	t := h.of(name)
	return t, !t.AccessToken.IsZero()
}

// NewWriter returns the writer of a sink. It starts nothing.
func NewWriter(s Sink, o Options) *Writer {
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

// log is where the writer logs. It is made for each entry, as there are seldom any.
func (w *Writer) log() *slog.Logger { return w.o.Log.With(logkey.Sink, w.sink.Path()) }

// Path returns where the sink is.
func (w *Writer) Path() string { return w.sink.Path() }

// Tokens returns the names of the tokens that the sink shows.
func (w *Writer) Tokens() []string { return w.sink.Tokens() }

// lookup returns the newest token of a name. It is how sinks look tokens up.
func (w *Writer) lookup(name string) (token.Token, bool) {
	t, _ := w.o.Newest(name)
	return t, !t.AccessToken.IsZero()
}

// Start writes the sink if it does not hold what it should.
func (w *Writer) Start() {
	if !w.holds(w.published.Load()) {
		w.Notify()
	}
}

// Notify makes the writer look at its tokens. It does not wait.
func (w *Writer) Notify() { w.work.Wake() }

// RerunActions runs the sink's actions although its content is the same, as a change before was not acted
// upon. Of an expired token there is nothing to tell.
func (w *Writer) RerunActions() {
	if !tokensOf(w.sink.Tokens(), w.lookup).expired(time.Now()) {
		w.hook.changed()
	}
}

// ActionsRunning reports whether a change is being acted upon. It is for whoever has seen first that the sink
// is written: the actions are begun before that can be seen.
func (w *Writer) ActionsRunning() bool { return w.hook.busy() }

// Stop ends retries and actions, and waits, within ctx, for a write that is under way. It reports
// whether a change may not have been acted upon.
func (w *Writer) Stop(ctx context.Context) (missed bool) {
	if w.work.Busy() {
		go w.hook.stop(ctx) // what it runs has to end, whatever the file system does
	}
	if !w.work.Stop(ctx) && w.work.Busy() {
		w.log().Warn("stopping although the sink's file system does not answer")
	}
	return w.hook.stop(ctx)
}

// step writes, and has that done again later if it failed.
func (w *Writer) step() {
	err := w.write()
	if err == nil {
		w.failures = 0
		w.o.Changed()
		return
	}
	w.failures++
	wait := policy.SinkRetry(w.failures, w.o.Roll())
	w.log().Warn("writing sink failed, the old content stays", logkey.Error, err, logkey.RetryIn, wait.Round(time.Millisecond), logkey.Attempt, w.failures)
	v := *w.published.Load()
	v.retryAt = time.Now().Add(wait)
	w.published.Store(&v)
	w.work.Retry(wait)
	w.o.Changed()
}

// write writes what there is, unless it has expired. It publishes what the sink then holds.
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
		return nil // it is written when the token is there
	case err != nil:
		v.wrote = nil // what is there now is anybody's guess
		v.failure, v.failedAt = err, time.Now()
		w.o.Metrics.Wrote(w.sink.Path(), "failed")
	default:
		if outcome != sink.Unchanged {
			w.log().Info("sink written", "outcome", outcome.String())
		}
		w.o.Metrics.Wrote(w.sink.Path(), label(outcome))
		v = view{wrote: shows, lastSuccess: time.Now(), lastChange: v.lastChange}
		if outcome == sink.Written {
			v.lastChange = v.lastSuccess
			w.act(shows) // before the view tells that all is done
		} else {
			w.repeats.byHook = false // what it changed needed no new content
		}
	}
	w.published.Store(&v)
	return err
}

// skipExpired keeps an expired token out of the file: whatever is there now may be better. A file that still
// holds it keeps its mode and owner.
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
	return nil // trying again would not renew the token; a new one brings the next write
}

func label(o sink.Outcome) string {
	if o == sink.Unchanged {
		return "unchanged"
	}
	return "written"
}

// Check compares the sink with what was written, and has it written again if somebody else changed it.
// It may block as long as the sink's file system does. A sink whose last check has not ended by then is
// not known to hold anything.
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

// intact reports whether the sink is as it was when v was published, or was written since.
func (w *Writer) intact(v *view) bool {
	if w.sink.Untouched() && slices.Equal(v.wrote, tokensOf(w.sink.Tokens(), w.lookup)) {
		return true
	}
	holds, err := w.sink.Holds(v.wrote.lookup)
	return err == nil && holds || w.published.Load() != v
}

// markNotHeld takes note that the sink does not hold what was written. It is run by the worker, whose next
// step writes it again.
func (w *Writer) markNotHeld() {
	v := *w.published.Load()
	v.wrote = nil
	w.published.Store(&v)
}

// holds reports whether the sink was last seen to hold the newest of every token.
func (w *Writer) holds(v *view) bool {
	for _, name := range w.sink.Tokens() {
		newest, ok := w.lookup(name)
		if !ok || v.wrote.of(name).AccessToken != newest.AccessToken {
			return false
		}
	}
	return true
}

// Behind returns why the sink lacks tokens that are there and good: its last write failed, or is still
// to come. It is nil for a sink that lacks none.
func (w *Writer) Behind() *Error {
	v, now := w.published.Load(), time.Now()
	for _, name := range w.sink.Tokens() {
		if t, _ := w.o.Newest(name); !t.ValidAt(now) {
			return nil
		}
	}
	if w.holds(v) {
		return nil
	}
	return &Error{Sink: w.sink.Path(), Err: v.failure}
}

// UpToDate reports whether a sink holds what it should, or holds good tokens and newer ones have only
// just come.
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

// Status returns what there is to tell of the sink.
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
