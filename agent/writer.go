package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
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
}

// writer brings one sink up to date: when a token changed, and again after a failure. It runs only
// while there is something to do, so an idle sink costs no goroutine, and a sink that hangs holds
// up nothing else.
type writer struct {
	sink    Sink
	lookup  sink.Lookup
	log     *slog.Logger
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
	idle     chan struct{} // closed while not running

	published atomic.Pointer[sinkView]
	reaction  atomic.Pointer[hook.Result] // the hook's last; nil before
}

// sinkView is what is known of a sink at one instant.
type sinkView struct {
	wrote       map[string]token.Token // what it was last seen to hold
	lastSuccess time.Time
	lastChange  time.Time // when its content was last replaced
	failure     error
	failedAt    time.Time
	retryAt     time.Time
}

func newWriter(s Sink, lookup sink.Lookup, m *metrics, log *slog.Logger) *writer {
	w := &writer{
		sink:    s,
		lookup:  lookup,
		log:     log.With(keySink, s.Path()),
		metrics: m,
		roll:    rand.Float64,
		hook:    noHook{},
		changed: func() {},
		idle:    make(chan struct{}),
	}
	close(w.idle)
	w.published.Store(&sinkView{})
	return w
}

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
	go w.hook.Stop(ctx) // what it runs has to end, whatever the file system does
	select {
	case <-idle:
	case <-ctx.Done():
		w.log.Warn("stopping although the sink's file system does not answer")
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
	held := make(map[string]token.Token)
	outcome, err := w.sink.Write(func(name string) (token.Token, bool) {
		t, ok := w.lookup(name)
		held[name] = t
		return t, ok
	})
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
			w.log.Info("sink written", "outcome", outcome.String())
		}
		w.metrics.wrote(w.sink.Path(), label(outcome))
		view = sinkView{wrote: held, lastSuccess: time.Now(), lastChange: view.lastChange}
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
		w.log.Warn("writing sink failed, the old content stays", keyError, err, keyRetryIn, wait.Round(time.Millisecond), keyAttempt, w.failures)
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
	return false
}

// check looks whether somebody else changed the file, and mends it.
func (w *writer) check() {
	w.mu.Lock()
	busy := w.running || w.stopped || w.failures > 0
	w.mu.Unlock()
	if busy || w.published.Load().wrote == nil {
		return
	}
	if holds, err := w.sink.Holds(w.lookup); err == nil && !holds {
		w.log.Warn("sink was changed by somebody else, writing it again")
		w.notify()
	}
}

// holds reports whether the sink was last seen to hold the newest of every token.
func (v *sinkView) holds(names []string, lookup sink.Lookup) bool {
	for _, name := range names {
		newest, ok := lookup(name)
		if !ok || v.wrote[name].AccessToken != newest.AccessToken {
			return false
		}
	}
	return true
}
