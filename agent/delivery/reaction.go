package delivery

import (
	"log/slog"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/logkey"
)

// Actions returns what a sink has configured as on_change.
func Actions(cfg config.Sink, s Sink, log *slog.Logger) []Action {
	var actions []Action
	for _, action := range cfg.OnChange {
		switch {
		case action.Signal != nil:
			actions = append(actions, Signal(*action.Signal))
		case action.Command != nil:
			actions = append(actions, Command{
				Words: action.Command.Run, Timeout: action.Command.Timeout,
				Sink: s.Path(), Tokens: s.Tokens(), Log: log.With(logkey.Sink, s.Path()),
			})
		}
	}
	return actions
}

// acted takes note of how an action went.
func (w *Writer) acted(r result) {
	w.lastRun.Store(latest(w.lastRun.Load(), r))
	w.o.Metrics.Reacted(w.sink.Path(), r.err)
	if r.err != nil {
		w.log().Warn("on_change failed, it is not repeated before the next change", logkey.Action, r.action, logkey.Took, r.took, logkey.Error, r.err)
	} else {
		w.log().Info("on_change done", logkey.Action, r.action, logkey.Took, r.took)
	}
	w.o.Changed()
}

// latest is how a run of actions went so far: as its last failure, if it had one.
func latest(before *result, r result) *result {
	if before != nil && before.run == r.run && before.err != nil && r.err == nil {
		r.action, r.err = before.action, before.err
	}
	return &r
}

// onChange is how the last run of a sink's actions went, where it has any.
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
