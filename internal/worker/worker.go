// Package worker runs the functions that are posted to it one at a time, in a goroutine that exists only while there
// is something to run. State that only posted functions touch needs no lock: to touch it, post.
//
// A worker has one step, which runs after posted functions: however many are posted while it works, one more step
// follows. One caveat: a function that it runs must not call Stop, which would wait for itself.
package worker

import (
	"context"
	"sync"
	"time"
)

// Worker runs posted functions and its step, never two at once. Its methods may be called from any goroutine.
type Worker struct {
	step func()
	rest func() // nil for none

	mu      sync.Mutex
	posted  []func() // guarded by mu, as are all that follow
	wanted  bool     // a step is wanted
	started bool
	stopped bool
	running bool
	idle    chan struct{} // closes when nothing runs; nil while nothing waits for that
	timer   *time.Timer   // for the next step
}

// New returns a worker that queues posted functions until it is started.
func New(step func()) *Worker { return &Worker{step: step} }

// OnRest sets a function that the worker's goroutine calls whenever it has run everything. Call it before Start.
func (w *Worker) OnRest(f func()) { w.rest = f }

// Start runs the functions posted so far before it returns, and later ones as they are posted. Only the first call
// has an effect.
func (w *Worker) Start() {
	w.mu.Lock()
	first := !w.started && !w.stopped
	w.started = w.started || first
	run := first && w.pending()
	w.running = w.running || run
	w.mu.Unlock()
	if run {
		w.run()
	}
}

// Post runs f, and a step after it, without waiting. It reports false after [Worker.Stop]; f is then kept for
// [Worker.Drain].
func (w *Worker) Post(f func()) (runs bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.posted = append(w.posted, f)
	w.begin()
	return w.running || !w.stopped
}

// Wake runs a step, without waiting.
func (w *Worker) Wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = true
	w.begin()
}

// Retry runs a step after d, unless something else triggers one before. Only the step may call it: a Wake since the
// step began waits for the retry too.
func (w *Worker) Retry(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = false
	switch {
	case w.stopped:
	case w.timer == nil:
		w.timer = time.AfterFunc(d, w.Wake)
	default:
		w.timer.Reset(d)
	}
}

// Busy reports whether something is running or about to run.
func (w *Worker) Busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running
}

// Stop cancels retries, and waits for posted functions until ctx ends. It reports whether the worker has finished:
// nothing is running, and nothing was posted too late to run. It may be called again.
func (w *Worker) Stop(ctx context.Context) (finished bool) {
	w.mu.Lock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.running && w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle := w.idle
	w.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.running && !w.pending()
}

// Drain runs functions that were posted too late, for the new owner of a finished worker's state.
func (w *Worker) Drain() {
	for _, f := range w.take() {
		f()
	}
}

// begin starts the worker's goroutine; w.mu is held.
func (w *Worker) begin() {
	if w.started && !w.stopped && !w.running {
		w.running = true
		go w.run()
	}
}

func (w *Worker) run() {
	for again := true; again; again = w.next() {
		for _, f := range w.take() {
			f()
		}
		w.step()
	}
	if w.rest != nil {
		w.rest()
	}
}

// take returns the posted functions. The step that follows satisfies the wanted one.
func (w *Worker) take() []func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	posted := w.posted
	w.posted, w.wanted = nil, false
	if w.timer != nil {
		w.timer.Stop()
	}
	return posted
}

// next reports whether there is more to run.
func (w *Worker) next() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = w.pending()
	if !w.running && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
	return w.running
}

// pending reports whether there is something to run; w.mu is held.
func (w *Worker) pending() bool { return len(w.posted) > 0 || w.wanted }
