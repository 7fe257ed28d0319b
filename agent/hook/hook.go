// Package hook does what a configuration wants done after a sink's content changed: it sends signals
// and runs commands.
//
// The actions of a sink run one after another and never twice at once; however often the content
// changes meanwhile, they run once more afterwards, so the last run always sees the last content.
// Each change is acted upon at most once: an action that fails is told of and not repeated. One
// caveat: a command sees nothing of the agent's environment but what is named here, see [Command].
package hook

import (
	"context"
	"sync"
	"time"
)

// Action is one thing to do.
type Action interface {
	// String names the action for people, and shows nothing that a secret could be in.
	String() string
	// Run does it, within its own time limit and until ctx ends.
	Run(ctx context.Context) error
}

// Result is how an action went.
type Result struct {
	Run    int // which run of all the actions it was part of, counted from 1
	Action string
	At     time.Time // when it had ended
	Took   time.Duration
	Err    error // nil for a success
}

// Options are what a hook is made from.
type Options struct {
	Actions []Action
	Tell    func(Result) // told how each action went, one after another
	Rested  func()       // told when there is nothing left to do
}

// Hook runs the actions of one sink.
type Hook struct {
	options Options
	ctx     context.Context
	cancel  context.CancelFunc

	runs int // owned by run

	mu      sync.Mutex
	running bool // guarded by mu, as are the others
	again   bool // the content changed while running
	stopped bool
	missed  bool          // a change was not acted upon to the end, because of the stop
	idle    chan struct{} // closed while not running
}

// New makes a hook. It starts nothing.
func New(o Options) *Hook {
	h := &Hook{options: o, idle: make(chan struct{})}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	close(h.idle)
	return h
}

// Changed says that the content changed. It does not wait.
func (h *Hook) Changed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.stopped:
		h.missed = true
	case h.running:
		h.again = true
	default:
		h.running, h.idle = true, make(chan struct{})
		go h.run()
	}
}

// Busy reports whether actions are running, or are about to.
func (h *Hook) Busy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.running
}

// Stop ends what is running and waits for its end, or for that of ctx. It reports whether a change
// was not acted upon to the end.
func (h *Hook) Stop(ctx context.Context) (missed bool) {
	h.mu.Lock()
	h.stopped = true
	idle := h.idle
	h.mu.Unlock()
	h.cancel()
	select {
	case <-idle:
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.missed || h.running
}

func (h *Hook) run() {
	for again := true; again; {
		h.runs++
		whole := true
		for _, action := range h.options.Actions {
			whole = h.act(action) && whole
		}
		again = h.finish(whole)
	}
	h.options.Rested()
}

// act runs one action and reports whether it was let run to its end.
func (h *Hook) act(action Action) (whole bool) {
	if h.ctx.Err() != nil {
		return false
	}
	began := time.Now()
	err := action.Run(h.ctx)
	now := time.Now()
	h.options.Tell(Result{Run: h.runs, Action: action.String(), At: now, Took: now.Sub(began), Err: err})
	return err == nil || h.ctx.Err() == nil
}

// finish decides whether to go on.
func (h *Hook) finish(whole bool) (again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	again, h.again = h.again, false
	if again && !h.stopped {
		return true
	}
	h.missed = h.missed || again || !whole
	h.running = false
	close(h.idle)
	return false
}
