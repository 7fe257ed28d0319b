package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/hook"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/token"
	"github.com/credagent/credagent/sink"
)

// Sink is where workloads read tokens.
type Sink interface {
	Path() string
	Tokens() []string
	// Write brings the sink to what lookup says. After an error the old content stays. It may
	// block as long as its file system does.
	Write(lookup sink.Lookup) (sink.Outcome, error)
	// Holds reports whether the sink is as Write would leave it.
	Holds(lookup sink.Lookup) (bool, error)
	// Untouched reports that it cannot have changed since Holds said so. It may always say no.
	Untouched() bool
}

// writer brings one sink up to date: when a token changed, and again after a failure. It runs only
// while there is something to do, so an idle sink costs no goroutine, and a sink that hangs holds
// up nothing else.
type writer struct {
	sink    Sink
	lookup  sink.Lookup
	logger  *slog.Logger
	metrics *metrics
	hook    Hook
	roll    func() float64 // jitter
	changed func()         // told after every attempt

	mu       sync.Mutex
	running  bool // guarded by mu, as are all fields down to timer
	again    bool // something changed while running
	stopped  bool
	failures int
	timer    *time.Timer
	idle     chan struct{} // closes when it runs no more; nil while it does not

	published atomic.Pointer[sinkView]
	reaction  atomic.Pointer[hook.Result] // the hook's last; nil before
}

// sinkView is what is known of a sink at one instant.
type sinkView struct {
	wrote       held // what it was last seen to hold; nil before
	lastSuccess time.Time
	lastChange  time.Time // when its content was last replaced
	failure     error
	failedAt    time.Time
	retryAt     time.Time
}

// held are tokens at one instant by the names under which a sink shows them, sorted by these. Most
// sinks show one, for which a map would be ten times as large.
type held []heldToken

type heldToken struct {
	name  string
	token token.Token
}

func hold(names []string, lookup sink.Lookup) held {
	h := make(held, len(names))
	for i, name := range names {
		h[i].name = name
		h[i].token, _ = lookup(name)
	}
	slices.SortFunc(h, func(a, b heldToken) int { return strings.Compare(a.name, b.name) })
	return h
}

// of returns the token of a name; the zero one where there is none.
func (h held) of(name string) token.Token {
	i, found := slices.BinarySearchFunc(h, name, func(t heldToken, name string) int { return strings.Compare(t.name, name) })
	if !found {
		return token.Token{}
	}
	return h[i].token
}

// lookup is how a sink looks the tokens up.
func (h held) lookup(name string) (token.Token, bool) {
	t := h.of(name)
	return t, !t.AccessToken.IsZero()
}

func newWriter(s Sink, lookup sink.Lookup, m *metrics, log *slog.Logger) *writer {
	w := &writer{
		sink:    s,
		lookup:  lookup,
		logger:  log,
		metrics: m,
		roll:    rand.Float64,
		hook:    noHook{},
		changed: func() {},
	}
	w.published.Store(&sinkView{})
	return w
}

// log is where the writer logs. It is made for each entry, as there are seldom any.
func (w *writer) log() *slog.Logger { return w.logger.With(keySink, w.sink.Path()) }

// notify makes the writer look at its tokens. It does not wait.
func (w *writer) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	if w.running {
		w.again = true
		return
	}
	w.running, w.idle = true, make(chan struct{})
	go w.run()
}

// stop ends retries and what the hook does, and waits, within ctx, for a write that is under way. It
// reports whether a change may not have been acted upon.
func (w *writer) stop(ctx context.Context) (missed bool) {
	w.mu.Lock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
	idle := w.idle
	w.mu.Unlock()
	if idle == nil {
		return w.hook.Stop(ctx)
	}
	go w.hook.Stop(ctx) // what it runs has to end, whatever the file system does
	select {
	case <-idle:
	case <-ctx.Done():
		w.log().Warn("stopping although the sink's file system does not answer")
	}
	return w.hook.Stop(ctx)
}

func (w *writer) run() {
	for again := true; again; {
		err := w.write()
		again = w.finish(err)
		w.changed()
	}
}

// write writes what there is. It publishes what the sink then holds.
func (w *writer) write() error {
	shows := hold(w.sink.Tokens(), w.lookup)
	outcome, err := w.sink.Write(shows.lookup)
	view := *w.published.Load()
	var missing *sink.MissingTokenError
	switch {
	case errors.As(err, &missing):
		return nil // it is written when the token is there
	case err != nil:
		view.failure, view.failedAt = err, time.Now()
		w.metrics.wrote(w.sink.Path(), "failed")
	default:
		if outcome != sink.Unchanged {
			w.log().Info("sink written", "outcome", outcome.String())
		}
		w.metrics.wrote(w.sink.Path(), label(outcome))
		view = sinkView{wrote: shows, lastSuccess: time.Now(), lastChange: view.lastChange}
		if outcome == sink.Written {
			view.lastChange = view.lastSuccess
			w.hook.Changed() // before the view tells that all is done
		}
	}
	w.published.Store(&view)
	return err
}

func label(o sink.Outcome) string {
	if o == sink.Unchanged {
		return "unchanged"
	}
	return "written"
}

// finish decides whether to go on at once, later or when notified.
func (w *writer) finish(err error) (again bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	if err != nil {
		w.failures++
		wait := policy.SinkRetry(w.failures, w.roll())
		w.log().Warn("writing sink failed, the old content stays", keyError, err, keyRetryIn, wait.Round(time.Millisecond), keyAttempt, w.failures)
		view := *w.published.Load()
		view.retryAt = time.Now().Add(wait)
		w.published.Store(&view)
		if !w.stopped {
			w.timer = time.AfterFunc(wait, w.notify)
		}
	} else {
		w.failures = 0
	}
	if w.again && err == nil && !w.stopped {
		w.again = false
		return true
	}
	w.again, w.running = false, false
	close(w.idle)
	w.idle = nil
	return false
}

// check looks whether somebody else changed the file, and mends it.
func (w *writer) check() {
	w.mu.Lock()
	busy := w.running || w.stopped || w.failures > 0
	w.mu.Unlock()
	wrote := w.published.Load().wrote
	if busy || wrote == nil || slices.Equal(wrote, hold(w.sink.Tokens(), w.lookup)) && w.sink.Untouched() {
		return
	}
	if holds, err := w.sink.Holds(w.lookup); err == nil && !holds {
		w.log().Warn("sink was changed by somebody else, writing it again")
		w.notify()
	}
}

// holds reports whether the sink was last seen to hold the newest of every token.
func (v *sinkView) holds(names []string, lookup sink.Lookup) bool {
	for _, name := range names {
		newest, ok := lookup(name)
		if !ok || v.wrote.of(name).AccessToken != newest.AccessToken {
			return false
		}
	}
	return true
}
