// Package worker runs what is posted to it one at a time, in a goroutine that exists only while there
// is something to run. What only the posted functions touch needs no lock: to touch it, post.
//
// A worker has one step, which follows whatever was posted: however much is posted while it works, one
// more step follows. One caveat: nothing that runs may call Stop, which would wait for itself.
package worker

import (
	"context"
	"sync"
	"time"
)

// Worker runs posted functions and its step, never two at once. Its methods may be called from anywhere.
type Worker struct {
	step func()
	rest func() // nil for nothing

	mu      sync.Mutex
	posted  []func() // guarded by mu, as are all that follow
	wanted  bool     // a step is wanted
	started bool
	stopped bool
	running bool
	idle    chan struct{} // closes when nothing runs; nil while nobody waits for that
	timer   *time.Timer   // for the next step
}

// New returns a worker that keeps what is posted until it is started.
func New(step func()) *Worker { return &Worker{step: step} }

// OnRest has f called, in the worker's goroutine, whenever it has run everything. It comes before Start.
func (w *Worker) OnRest(f func()) { w.rest = f }

// Start runs what was posted so far, before it returns, and everything that is posted later as it
// comes. Only the first call does anything.
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

// Post has f run, and a step after it. It does not wait. It reports false when that comes too late, after
// [Worker.Stop]: then f is kept for [Worker.Drain].
func (w *Worker) Post(f func()) (runs bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.posted = append(w.posted, f)
	w.begin()
	return w.running || !w.stopped
}

// Wake has a step run. It does not wait.
func (w *Worker) Wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = true
	w.begin()
}

// Retry has a step run after d, unless something else brings one about before. It is for the step
// itself: a Wake that came since the step began waits for the retry too.
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

// Busy reports whether something is running or about to.
func (w *Worker) Busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running
}

// Stop ends retries, and waits, until ctx ends, for what was posted. It reports whether the worker has
// finished: nothing is running, and nothing was posted too late to run. It may be called again.
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

// Drain runs what was posted too late, for whoever takes over what a worker that has finished owned.
func (w *Worker) Drain() {
	for _, f := range w.take() {
		f()
	}
}

// begin makes the worker run; w.mu is held.
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

// take returns what was posted. The step that follows is the one that was wanted.
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
