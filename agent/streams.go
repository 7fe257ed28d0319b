package agent

import (
	"cmp"
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/gate"
	"github.com/credagent/credagent/agent/signals"
	"github.com/credagent/credagent/agent/status"
)

// streams are the streams of Shared Signals that run. Only the agent's goroutine changes which there are.
type streams struct {
	mu     sync.RWMutex
	byName map[string]*signals.Stream // guarded by mu
}

func (s *streams) all() []*signals.Stream {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.byName))
}

func (s *streams) get(name string) *signals.Stream {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byName[name]
}

// put has a stream in the place of the one of that name; nil for none.
func (s *streams) put(name string, next *signals.Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName == nil {
		s.byName = map[string]*signals.Stream{}
	}
	if next == nil {
		delete(s.byName, name)
		return
	}
	s.byName[name] = next
}

// wake has the streams check whether tokens are newer now.
func (s *streams) wake() {
	for _, stream := range s.all() {
		stream.Wake()
	}
}

func (s *streams) status() []status.Stream {
	var all []status.Stream
	for _, stream := range s.all() {
		all = append(all, stream.Status())
	}
	slices.SortFunc(all, func(a, b status.Stream) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// followStreams starts and ends streams, so that those run that are configured. One that is the same goes
// on. Only the agent's goroutine calls it.
func (a *Agent) followStreams(ctx context.Context, wanted []config.Stream) {
	named := map[string]bool{}
	for _, cfg := range wanted {
		named[cfg.Name] = true
		client := a.clientOfToken(cfg.Token)
		if was := a.streams.get(cfg.Name); was != nil {
			if before, with := was.Config(); reflect.DeepEqual(before, cfg) && sameClient(with, client) {
				continue
			}
			was.Stop()
		}
		a.metrics.Begin(&config.Config{Signals: []config.Stream{cfg}})
		next := a.newStream(cfg, client)
		a.streams.put(cfg.Name, next)
		next.Start(ctx)
	}
	a.endStreams(func(name string) bool { return !named[name] })
}

// endStreams ends the streams of some names.
func (a *Agent) endStreams(these func(name string) bool) {
	for _, stream := range a.streams.all() {
		cfg, _ := stream.Config()
		if these(cfg.Name) {
			stream.Stop()
			a.streams.put(cfg.Name, nil)
			a.metrics.ForgetStream(cfg.Name)
		}
	}
}

// clientOfToken is the client of a token, by whose roots, proxy and time limit a stream goes.
func (a *Agent) clientOfToken(name string) config.Client {
	if t := a.parts.token(name); t != nil {
		return *t.client.cfg
	}
	return config.Client{}
}

func (a *Agent) newStream(cfg config.Stream, client config.Client) *signals.Stream {
	o := signals.Options{
		Config: cfg, Client: client,
		Token: a.Token, Outdate: a.outdate, Outdated: a.outdated, CertificateRevoked: a.certificateRevoked, AccountDisabled: a.accountDisabled,
		Changed: a.changed, Roll: a.machine.random("stream " + cfg.Name), Metrics: a.metrics, Log: a.log, Connect: a.machine.connect,
	}
	o.Memory, _ = a.options.Memory.(signals.Memory) // one that keeps tokens alone has no stream to keep
	if a.options.Waits != nil {
		o.Waits = a.options.Waits
	}
	return signals.New(o)
}

// tokensOfClient are the tokens of a client by its name; none where there is no such client.
func (a *Agent) tokensOfClient(name string) ([]*tokenPart, *gate.Client) {
	part := a.parts.client(name)
	if part == nil {
		return nil, nil
	}
	return a.parts.tokensOf(part.cfg), part.client
}

// outdate has a client's tokens replaced that were issued at or before an instant, each by one request
// through the client's gate. It reports whether there are any.
func (a *Agent) outdate(client string, before time.Time) (any bool) {
	tokens, _ := a.tokensOfClient(client)
	for _, t := range tokens {
		any = t.keeper.Outdate(before) || any
	}
	return any
}

// outdated reports whether tokens of a client are yet to be replaced.
func (a *Agent) outdated(client string) bool {
	tokens, _ := a.tokensOfClient(client)
	return slices.ContainsFunc(tokens, func(t *tokenPart) bool { return t.keeper.IsOutdated() })
}

func (a *Agent) certificateRevoked(ctx context.Context, client, serial string) bool {
	_, c := a.tokensOfClient(client)
	return c != nil && c.CertificateRevoked(ctx, serial)
}

// accountDisabled has a client find out slowly whether it still gets tokens, where it has any that were
// issued at or before an instant.
func (a *Agent) accountDisabled(client, reason string, before time.Time) bool {
	tokens, c := a.tokensOfClient(client)
	if !slices.ContainsFunc(tokens, func(t *tokenPart) bool { return t.keeper.IssuedBy(before) }) {
		return false
	}
	c.Doubt(reason)
	return a.outdate(client, before)
}
