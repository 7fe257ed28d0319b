package agent

import (
	"context"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/hook"
	"github.com/credagent/credagent/agent/status"
)

// Hook acts on changes of a sink's content, away from the writer.
type Hook interface {
	Changed()                               // does not wait
	Busy() bool                             // something is running, or about to
	Stop(ctx context.Context) (missed bool) // what runs is ended; a change may not have been acted upon
}

// noHook is a sink's without on_change.
type noHook struct{}

func (noHook) Changed()                  {}
func (noHook) Busy() bool                { return false }
func (noHook) Stop(context.Context) bool { return false }

// react makes the writer's sink act on changes as configured.
func (w *writer) react(actions []hook.Action) {
	if len(actions) > 0 {
		w.hook = hook.New(hook.Options{Actions: actions, Tell: w.reacted, Rested: func() { w.changed() }})
	}
}

// reacted learns how an action went.
func (w *writer) reacted(r hook.Result) {
	w.reaction.Store(latest(w.reaction.Load(), r))
	w.metrics.reacted(w.sink.Path(), r.Err)
	if r.Err != nil {
		w.log().Warn("on_change failed, it is not repeated before the next change", keyAction, r.Action, keyTook, r.Took, keyError, r.Err)
	} else {
		w.log().Info("on_change done", keyAction, r.Action, keyTook, r.Took)
	}
	w.changed()
}

// latest is how a run of actions went so far: as its last failure, if it had one.
func latest(before *hook.Result, r hook.Result) *hook.Result {
	if before != nil && before.Run == r.Run && before.Err != nil && r.Err == nil {
		r.Action, r.Err = before.Action, before.Err
	}
	return &r
}

// actionsOf makes what a sink has configured.
func (a *Agent) actionsOf(cfg config.Sink, s Sink) []hook.Action {
	var actions []hook.Action
	for _, action := range cfg.OnChange {
		switch {
		case action.Signal != nil:
			actions = append(actions, hook.Signal(*action.Signal))
		case action.Command != nil:
			actions = append(actions, hook.Command{
				Words: action.Command.Run, Timeout: action.Command.Timeout,
				Sink: s.Path(), Tokens: s.Tokens(), Log: a.log.With(keySink, s.Path()),
			})
		}
	}
	return actions
}

// onChange is how the last run of a sink's actions went, where it has any.
func (w *writer) onChange() *status.OnChange {
	if _, none := w.hook.(noHook); none {
		return nil
	}
	s := &status.OnChange{Running: w.hook.Busy()}
	if r := w.reaction.Load(); r != nil {
		s.LastAction, s.LastRun, s.LastOutcome = r.Action, status.Instant(r.At), outcomeOf(r.Err == nil)
		if r.Err != nil {
			s.LastError = r.Err.Error()
		}
	}
	return s
}
