// Package agent is the daemon: it keeps every configured token fresh and every sink up to date.
//
// It owns the goroutines: one for each gate, which all the tokens of a client pass, one that watches
// the clock, and one for each token and sink only while there is something to do for it. What they
// decide comes from package policy; what they know is published as values that anybody may read. It
// never sees a credential: requests are authenticated and sent by a provider's process.
package agent

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/delivery"
	"github.com/credagent/credagent/agent/gate"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/filewatch"
	"github.com/credagent/credagent/internal/token"
	"github.com/credagent/credagent/sink"
)

// stopTimeout is how long stopping waits for sinks whose file system does not answer.
const stopTimeout = 3 * time.Second

// Options are what an agent is made from. A program that embeds the agent may hand in providers, sinks
// and a memory of its own.
type Options struct {
	Config   *config.Config // validated
	Version  string
	Log      *slog.Logger
	Registry prometheus.Registerer
	Builtin  []string // providers that this executable serves itself
	// Provider makes the provider of a client's credential; nil for processes, as configured.
	Provider func(provider.Spec) Provider
	// Sink opens a sink; nil for the file system.
	Sink func(config.Sink) (Sink, error)
	// Memory keeps what must outlive the process; nil for nothing.
	Memory Memory
	// Waits is what all commands on the host know of what servers asked for; nil for nothing but what
	// this agent knows by itself.
	Waits Waits
	// Directories remembers where sinks were, so that what a killed process left there is removed; nil
	// for nobody.
	Directories interface {
		AddSinkDirectories(used map[string]int) (ever map[string]int, err error)
	}
}

// Provider authenticates and sends one client's token requests.
type Provider = gate.Provider

// Sink is where workloads read tokens.
type Sink = delivery.Sink

// Waits is what all commands on a host know of what servers asked for.
type Waits = gate.Waits

// Memory is where the agent keeps what must outlive its process. It may block as long as its file
// system does.
type Memory interface {
	LoadAll() (map[string]store.Record, []error)
	Save(name string, r store.Record) error
	Remove(name string) error
}

// machine is what the agent takes from the machine it runs on: chance, clocks, and news of changed files.
type machine struct {
	random  func(whose string) func() float64 // a source of numbers in [0, 1) for whoever rolls dice
	actions func(config.Sink, Sink, sink.Lookup, *slog.Logger) []delivery.Action
	watch   func() (filewatch.Notifier, error)
	clock   func() (clockWatch, error)
}

// realMachine is the one that runs this process.
func realMachine() machine {
	return machine{
		random:  func(string) func() float64 { return rand.Float64 },
		actions: delivery.Actions,
		watch:   filewatch.New,
		clock:   watchClock,
	}
}

// Agent keeps the tokens of its configuration.
type Agent struct {
	options   Options
	machine   machine
	log       *slog.Logger
	startedAt time.Time
	metrics   *metrics.Metrics
	gates     *gate.Gates // they outlive reloads

	parts   atomic.Pointer[parts] // replaced whole, by Open and by run
	reloads chan reload

	changes    *changes
	heartbeat  atomic.Pointer[time.Time]     // when the watch last compared the clocks
	lastReload atomic.Pointer[status.Reload] // nil before the first
	looks      sync.WaitGroup                // looks at files, and credentials being proved
	checks     atomic.Int32                  // looks at the sinks that are under way
}

// New prepares an agent. It touches neither disk nor network and starts no goroutine.
func New(o Options) *Agent { return newAgent(o, realMachine()) }

func newAgent(o Options, m machine) *Agent {
	a := &Agent{
		options:   o,
		machine:   m,
		log:       o.Log,
		startedAt: time.Now(),
		reloads:   make(chan reload),
		changes:   newChanges(),
		metrics:   metrics.New(o.Registry, o.Version),
	}
	a.gates = gate.NewGates(gate.Options{
		Waits:     o.Waits,
		Roll:      func(clientID string) func() float64 { return m.random("gate " + clientID) },
		Recovered: a.recovered,
		Log:       a.log,
	})
	a.heartbeat.Store(&a.startedAt)
	a.parts.Store(a.assemble(o.Config, &parts{}))
	return a
}

// Open opens the sinks and takes over what an earlier process remembered. It refuses what cannot
// work on this host, such as a sink in a directory that others can write to, with a [*config.Error].
func (a *Agent) Open() error {
	if err := a.openSinks(a.parts.Load(), &parts{}); err != nil {
		return err
	}
	a.removeLeftOvers(a.parts.Load())
	a.restore()
	return nil
}

// removeLeftOvers has what killed processes left removed where sinks were.
func (a *Agent) removeLeftOvers(p *parts) {
	a.looks.Go(func() { delivery.RemoveLeftOvers(a.options.Directories, p.cfg.Sinks, a.log) })
}

// newest returns the newest token of a name, which is zero while there is none, and since when.
func (a *Agent) newest(name string) (t token.Token, since time.Time) {
	k, ok := a.parts.Load().keepers[name]
	if !ok {
		return token.Token{}, time.Time{}
	}
	v := k.View()
	return v.Token, v.AcquiredAt
}

// token returns the newest token of a name. It is how sinks look tokens up.
func (a *Agent) token(name string) (token.Token, bool) {
	t, _ := a.newest(name)
	return t, !t.AccessToken.IsZero()
}

// deliver tells the sinks that show a token to look at it.
func (a *Agent) deliver(name string) {
	for _, w := range a.parts.Load().shows[name] {
		w.Notify()
	}
}

// recovered tells a gate's tokens that an outage has ended.
func (a *Agent) recovered(g *gate.Gate, since time.Time) {
	for _, k := range a.parts.Load().keepers {
		if k.Client().Gate() == g {
			k.Recovered(since)
		}
	}
}

// changed tells whoever listens that something is different.
func (a *Agent) changed() { a.changes.tell() }

// Changes receives a value after something changed; after many changes at once, one that comes no
// sooner than a reader that looks at the status each time has time for. It is for one reader.
func (a *Agent) Changes() <-chan struct{} { return a.changes.told }

// Run keeps the tokens until ctx ends, and returns when everything it started has ended. The files
// stay: the tokens in them are still good.
func (a *Agent) Run(ctx context.Context) {
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		a.watch(ctx)
	}()
	a.start(ctx, a.parts.Load())
	a.changed() // what was restored may be all there is to say
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case r := <-a.reloads:
			r.done <- a.apply(ctx, r.cfg)
		}
	}
	<-watching
	a.stop(a.parts.Load())
}

// start starts what does not run yet. The gates come last, so that of the tokens that are due, the
// one that is due longest goes first; of those that are due alike, the one that is configured first.
func (a *Agent) start(ctx context.Context, p *parts) {
	for i := range p.cfg.Tokens {
		p.keepers[p.cfg.Tokens[i].Name].Start(ctx)
	}
	a.gates.Start(ctx)
	for _, w := range p.writers {
		w.Start()
	}
}

// stop ends everything and waits for it.
func (a *Agent) stop(p *parts) {
	for _, k := range p.keepers {
		k.Stop()
	}
	a.gates.Stop()
	p.close()
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var writers sync.WaitGroup
	for _, w := range p.writers {
		writers.Go(func() { w.Stop(stopping) })
	}
	for _, k := range p.keepers {
		k.StopSaving(stopping)
	}
	writers.Wait()
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		a.looks.Wait()
	}()
	select { // a file system that hangs must not hold up the end
	case <-looked:
	case <-stopping.Done():
	}
}

// Close ends the providers' processes. [Agent.Run] does so by itself.
func (a *Agent) Close() { a.parts.Load().close() }

// close ends the providers' processes, all at once: one that does not end holds up no other.
func (p *parts) close() {
	var closing sync.WaitGroup
	for _, c := range p.clients {
		closing.Go(c.Close)
	}
	closing.Wait()
}
