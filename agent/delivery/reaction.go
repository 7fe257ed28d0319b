package delivery

import (
	"errors"
	"log/slog"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/logkey"
	"github.com/credagent/credagent/sink"
)

// Actions returns what a sink has configured as on_change.
func Actions(cfg config.Sink, s sink.Sink, lookup sink.Lookup, log *slog.Logger) []Action {
	var actions []Action
	for _, action := range cfg.OnChange {
		switch {
		case action.Signal != nil:
			actions = append(actions, Signal(*action.Signal))
		case action.Command != nil:
			actions = append(actions, Command{
				Words: action.Command.Run, Timeout: action.Command.Timeout,
				Sink: s.Path(), Tokens: s.Tokens(), Lookup: lookup, Log: log.With(logkey.Sink, s.Path()),
			})
		}
	}
	return actions
}

// recordResult records the result of an action.
func (w *Writer) recordResult(r result) {
	w.lastRun.Store(latest(w.lastRun.Load(), r))
	w.o.Metrics.Reacted(w.sink.Path(), r.err)
	log := w.log().With(logkey.Action, r.action, logkey.Took, r.took)
	var failed *CommandError
	if errors.As(r.err, &failed) && failed.Stderr != "" {
		log = log.With(logkey.Stderr, failed.Stderr)
	}
	if r.err != nil {
		log.Warn("on_change failed, it is not repeated before the next change", logkey.Error, r.err)
	} else {
		log.Info("on_change done")
	}
	w.o.Changed()
}

// act runs the actions after a change, unless they would repeat forever. The worker runs it.
func (w *Writer) act(shows tokenSet) {
	if w.hook == nil {
		return
	}
	act, err := w.repeats.next(shows, time.Now())
	if err != nil {
		w.reportLoop(err)
	}
	if act {
		w.hook.changed()
	}
}

// checkAfterActions checks whether the actions changed their own sink. It runs after them, before they may run again.
func (w *Writer) checkAfterActions() {
	v := w.published.Load()
	if v.wrote == nil || w.work.Busy() || w.intact(v) || v.wrote.expired(time.Now()) {
		return
	}
	w.reportLoop(errChangesSink)
	w.work.Post(func() {
		w.repeats.byHook = true
		w.markNotHeld()
	})
}

// reportLoop records that the actions would repeat forever, although each succeeded.
func (w *Writer) reportLoop(err error) {
	r := result{action: "on_change", at: time.Now(), err: err}
	if last := w.lastRun.Load(); last != nil {
		r.run, r.action = last.run, last.action
	}
	w.lastRun.Store(&r)
	w.o.Metrics.Reacted(w.sink.Path(), err)
	w.log().Error("on_change would repeat for ever", logkey.Action, r.action, logkey.Error, err)
}

// latest returns the result of a run of actions so far: its last failure, if it had one.
func latest(before *result, r result) *result {
	if before != nil && before.run == r.run && before.err != nil && r.err == nil {
		r.action, r.err = before.action, before.err
	}
	return &r
}

// onChange returns the result of the last run of a sink's actions, if it has any.
func (w *Writer) onChange() *status.OnChange {
	if w.hook == nil {
		return nil
	}
	s := &status.OnChange{Running: w.hook.busy()}
	if r := w.lastRun.Load(); r != nil {
		s.LastAction, s.LastRun, s.LastOutcome = r.action, status.Instant(r.at), metrics.Outcome(r.err == nil)
		if r.err != nil {
			s.LastError = r.err.Error()
		}
	}
	return s
}
