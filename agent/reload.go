package agent

import (
	"context"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/delivery"
	"github.com/credagent/credagent/agent/gate"
	"github.com/credagent/credagent/agent/keeper"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/logkey"
)

// reload asks the agent's goroutine to take a new configuration.
type reload struct {
	cfg  *config.Config
	done chan<- error
}

// Reload makes a running agent follow a new configuration. It is checked whole first: after an
// error, which is a [*config.Error], nothing has changed. Tokens and clients that are the same in
// both keep their schedule, and a client that changed still honours what its server asked for.
// Files of sinks that are gone stay as they are.
func (a *Agent) Reload(ctx context.Context, cfg *config.Config) error {
	done := make(chan error, 1)
	select {
	case a.reloads <- reload{cfg, done}:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Agent) apply(ctx context.Context, cfg *config.Config) error {
	old := a.parts.Load()
	next := a.assemble(cfg, old)
	err := a.check(ctx, next, false)
	if err == nil {
		err = next.resolveAccess()
	}
	if err == nil {
		err = a.openSinks(next, old)
	}
	if err != nil {
		next.abandon(old)
		a.reloaded(err)
		return err
	}
	missed := a.retire(old, next)
	a.inherit(old, next)
	a.parts.Store(next)
	a.start(ctx, next)
	a.removeLeftOvers(next)
	for _, w := range next.writers {
		if missed[w.Path()] {
			w.RerunActions()
		}
	}
	a.metrics.Forget(old.cfg, cfg)
	a.reloaded(nil)
	return nil
}

// abandon ends what was made for a configuration that will not be used.
func (p *parts) abandon(old *parts) {
	for name, c := range p.clients {
		if old.clients[name] != c {
			c.Close()
		}
	}
}

// retire ends the parts of old that next does not keep, and waits for them, so that their state
// can be taken over. It returns the sinks, by their paths, of which a change was not acted upon.
func (a *Agent) retire(old, next *parts) (missed map[string]bool) {
	var ended []*keeper.Keeper
	for name, k := range old.keepers {
		if next.keepers[name] != k {
			k.Stop()
			ended = append(ended, k)
		}
	}
	for name, c := range old.clients {
		if next.clients[name] != c {
			c.Retire()
		}
	}
	for _, k := range ended {
		if next.keepers[k.Config().Name] != nil {
			k.Finish()
		}
	}
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for _, k := range ended {
		k.StopSaving(stopping)
	}
	a.gates.Prune(next.gates())
	kept := make(map[*delivery.Writer]bool, len(next.writers))
	for _, w := range next.writers {
		kept[w] = true
	}
	missed = map[string]bool{}
	for _, w := range old.writers {
		if !kept[w] {
			missed[w.Path()] = w.Stop(stopping)
			a.log.Info("sink removed or changed; file left in place", logkey.Sink, w.Path())
		}
	}
	return missed
}

// inherit hands tokens that are still the right ones to the new keepers, and ends the waits of our
// own: the new configuration may be what was missing.
func (a *Agent) inherit(old, next *parts) {
	for name, k := range next.keepers {
		if was, ok := old.keepers[name]; ok && was != k {
			k.Inherit(was)
		}
		k.ResetBackoff()
	}
	for _, g := range a.gates.All() {
		g.ResetBackoff()
	}
}

// gates are those that the clients' requests pass.
func (p *parts) gates() map[*gate.Gate]bool {
	gates := make(map[*gate.Gate]bool, len(p.clients))
	for _, c := range p.clients {
		gates[c.Gate()] = true
	}
	return gates
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
