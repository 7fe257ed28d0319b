package agent

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
)

// ErrStopped says that the agent does not run any more.
var ErrStopped = errors.New("the agent has stopped")

// task is something for the agent's goroutine to do.
type task struct {
	do   func(ctx context.Context) error
	done chan<- error
}

// perform has something done by the agent's goroutine, as soon as there is one.
func (a *Agent) perform(ctx context.Context, do func(ctx context.Context) error) error {
	done := make(chan error, 1)
	select {
	case a.tasks <- task{do, done}:
		return <-done
	case <-a.ended:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Reload makes a running agent follow a new configuration. It is checked whole first: after an
// error, which is a [*config.Error], nothing has changed. Tokens and clients that are the same in
// both keep their schedule, and a client that changed still honours what its server asked for. What
// the agent waits for by itself ends. Files of sinks that are gone stay as they are.
func (a *Agent) Reload(ctx context.Context, cfg *config.Config) error {
	return a.perform(ctx, func(ctx context.Context) error {
		err := a.reload(ctx, cfg)
		a.reloaded(err)
		return err
	})
}

func (a *Agent) reload(ctx context.Context, cfg *config.Config) error {
	if err := a.follow(ctx, cfg); err != nil {
		return err
	}
	a.resetBackoff()
	a.removeLeftOvers()
	return nil
}

// follow puts what a configuration has in the place of what is different.
func (a *Agent) follow(ctx context.Context, cfg *config.Config) error {
	e := a.difference(cfg)
	err := a.checkEdit(ctx, e)
	var admitted map[string]*access
	if err == nil {
		admitted, err = resolveAccess(cfg)
	}
	if err == nil {
		err = a.openSinks(e)
	}
	if err != nil {
		e.abandon()
		return err
	}
	a.admit(e, admitted)
	a.commit(ctx, e)
	return nil
}

// difference is what a configuration has other than what runs, without sinks. What is the same stays
// the same part, with all its state.
func (a *Agent) difference(cfg *config.Config) *edit {
	e := newEdit()
	e.cfg = cfg
	a.differentClients(e)
	named := make(map[string]bool, len(cfg.Tokens))
	for _, t := range cfg.Tokens {
		named[t.Name] = true
		c := e.clients[t.Client]
		if c == nil {
			c = a.parts.client(t.Client)
		}
		if was := a.parts.token(t.Name); was == nil || was.client != c || !reflect.DeepEqual(*was.cfg, t) {
			e.tokens[t.Name] = a.newToken(t, c)
		}
	}
	for _, t := range a.parts.list().tokens {
		if !named[t.name()] {
			e.tokens[t.name()] = nil
		}
	}
	return e
}

func (a *Agent) differentClients(e *edit) {
	samePlugins := reflect.DeepEqual(a.parts.settings().Plugins, e.cfg.Plugins)
	named := make(map[string]bool, len(e.cfg.Clients))
	for _, c := range e.cfg.Clients {
		named[c.Name] = true
		if was := a.parts.client(c.Name); was == nil || !samePlugins || !sameClient(*was.cfg, c) {
			e.clients[c.Name] = a.newClient(c, e.cfg)
		}
	}
	for _, c := range a.parts.list().clients {
		if !named[c.name()] {
			e.clients[c.name()] = nil
		}
	}
}

// checkEdit asks the providers of the clients that are new. Of the others, which were asked before, it
// only sees whether a new sink would write over their credentials.
func (a *Agent) checkEdit(ctx context.Context, e *edit) error {
	var clients []*clientPart
	for _, cfg := range e.cfg.Clients {
		if next := e.clients[cfg.Name]; next != nil {
			clients = append(clients, next)
		}
	}
	err := problemsOf(context.Background(), a.ask(ctx, clients, e.cfg, false))
	if err != nil {
		return err
	}
	var problems []config.Problem
	if a.writesMore(e.cfg) {
		for _, c := range a.parts.list().clients {
			if _, changes := e.clients[c.name()]; !changes {
				problems = append(problems, c.client.Overwritten(e.cfg)...)
			}
		}
	}
	return errorOf(problems)
}

// writesMore reports whether a configuration has a file written that is not written now.
func (a *Agent) writesMore(cfg *config.Config) bool {
	for _, s := range cfg.Sinks {
		if a.parts.sink(s.Path) == nil {
			return true
		}
	}
	now := a.parts.settings()
	return !reflect.DeepEqual(now.Socket, cfg.Socket) || !reflect.DeepEqual(now.Identity, cfg.Identity)
}

// openSinks opens the sinks of the edit's configuration, but for those that are open just so.
func (a *Agent) openSinks(e *edit) error {
	var problems []config.Problem
	named := make(map[string]bool, len(e.cfg.Sinks))
	open := a.opener()
	for i, cfg := range e.cfg.Sinks {
		named[cfg.Path] = true
		if was := a.parts.sink(cfg.Path); was != nil && sameSink(was.cfg, cfg) {
			if was.place != i {
				e.sinks[cfg.Path] = &sinkPart{cfg: cfg, sink: was.sink, writer: was.writer, place: i}
			}
			continue
		}
		s, err := open(cfg)
		if err != nil {
			problems = append(problems, e.cfg.Problem(cfg.OutputKey(), err.Error()))
			continue
		}
		e.sinks[cfg.Path] = a.newSink(cfg, s, i)
	}
	for _, s := range a.parts.list().sinks {
		if !named[s.path()] {
			e.sinks[s.path()] = nil
		}
	}
	return errorOf(problems)
}

// resetBackoff ends every wait of our own, of sinks too: the new configuration may be what was missing.
func (a *Agent) resetBackoff() {
	list := a.parts.list()
	for _, t := range list.tokens {
		t.keeper.Adjust(policy.Attempts.WithoutBackoff)
	}
	for _, c := range list.clients {
		c.client.ResetBackoff()
	}
	for _, s := range list.sinks {
		s.writer.Start()
	}
}

// ReloadFailed records that a new configuration could not even be read.
func (a *Agent) ReloadFailed(err error) { a.reloaded(err) }

// reloaded publishes how the last reload ended.
func (a *Agent) reloaded(err error) {
	a.metrics.Reloaded(err == nil)
	last := &status.Reload{At: time.Now().Round(0).UTC(), Successful: err == nil}
	if err != nil {
		last.Error = err.Error()
	}
	a.lastReload.Store(last)
	a.changed()
}
