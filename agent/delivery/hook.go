package delivery

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/internal/worker"
)

// Action is one action after a sink's content changed.
type Action interface {
	// String names the action for people, without anything that could contain a secret.
	String() string
	// Run runs it, within its own time limit and until ctx ends.
	Run(ctx context.Context) error
}

// result is the result of an action.
type result struct {
	run    int // the run of all actions that it was part of, counted from 1
	action string
	at     time.Time // when it had ended
	took   time.Duration
	err    error // nil for a success
}

// hook runs the actions of one sink, independently of the writer: one after another and never concurrently. However
// often the content changes meanwhile, they run once more afterwards, so the last run always sees the last content.
// They run at most once for each change: a failed action is not repeated.
type hook struct {
	actions []Action
	done    func(result) // called after each action
	after   func()       // called after each run of all of them; nil for none
	ctx     context.Context
	cancel  context.CancelFunc
	work    *worker.Worker
	runs    int         // owned by run
	cut     atomic.Bool // the stop cut off the actions of a change
}

// newHook returns a hook. It starts nothing. done is called after each action, and rested when there is nothing left
// to do.
func newHook(actions []Action, done func(result), rested func()) *hook {
	h := &hook{actions: actions, done: done}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.work = worker.New(h.run)
	h.work.OnRest(rested)
	h.work.Start()
	return h
}

// changed runs the actions for new content, without waiting. A nil hook has none.
func (h *hook) changed() {
	if h != nil {
		h.work.Wake()
	}
}

// busy reports whether actions are running or about to run.
func (h *hook) busy() bool { return h != nil && h.work.Busy() }

// stop ends running actions and waits for their end, or for that of ctx. It reports whether the actions of a change
// were cut off.
func (h *hook) stop(ctx context.Context) (missed bool) {
	if h == nil {
		return false
	}
	h.cancel()
	finished := h.work.Stop(ctx)
	return !finished || h.cut.Load()
}

func (h *hook) run() {
	h.runs++
	whole := true
	for _, action := range h.actions {
		whole = h.act(action) && whole
	}
	if !whole {
		h.cut.Store(true)
	} else if h.after != nil {
		h.after()
	}
}

// act runs one action and reports whether it could run to its end.
func (h *hook) act(action Action) (whole bool) {
	if h.ctx.Err() != nil {
		return false
	}
	began := time.Now()
	err := action.Run(h.ctx)
	now := time.Now()
	h.done(result{run: h.runs, action: action.String(), at: now, took: now.Sub(began), err: err})
	return err == nil || h.ctx.Err() == nil
}
