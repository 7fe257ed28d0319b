// Package agent keeps access tokens fresh and every sink up to date. It is the daemon, and it is what a
// program has inside it that wants no daemon:
//
//	a := agent.New(agent.Options{Provider: mine})
//	if err := a.Open(); err != nil {
//		return err
//	}
//	go a.Run(ctx)
//	err := a.Apply(ctx, agent.SetClient(config.Client{…})) // then SetToken, SetSink, AttachSink
//	t, err := a.Token("orders")
//
// Clients, tokens and sinks come and go one at a time with [Agent.Apply], or all at once with
// [Agent.Reload] and a [config.Config]. [Agent.Updates] tells of tokens that changed, [Agent.Status] of
// everything. A program brings what it has of its own in [Options]: the providers of its credentials,
// its sinks, and the memory that outlives the process.
//
// The package owns the goroutines: one that watches the clock; and one for each gate, token and sink only
// while there is something to do for it, with one for each request under way. What they decide comes from
// package policy; what they know is published as values that anybody may read. It never sees a credential:
// requests are authenticated and sent by a provider's process.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/delivery"
	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/gate"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/clockwatch"
	"github.com/credagent/credagent/internal/filewatch"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
	"github.com/prometheus/client_golang/prometheus"
)

// stopTimeout is how long stopping waits for sinks whose file system does not answer.
const stopTimeout = 3 * time.Second

// Options are what an agent is made from. All may be left out. A program that embeds the agent may hand in
// providers, sinks and a memory of its own.
type Options struct {
	Config   *config.Config // validated; nil for an empty one, to which Apply adds
	Version  string
	Log      *slog.Logger          // nil for none
	Registry prometheus.Registerer // nil for one of the agent's own
	Builtin  []string              // providers that this executable serves itself
	// Provider makes the provider of a client's credential; nil for processes, as configured.
	Provider func(provider.Spec) Provider
	// Sink opens a sink; nil for files, and for Secrets of the cluster in which the process has a pod.
	Sink func(config.Sink) (Sink, error)
	// Memory keeps what must outlive the process; nil for nothing.
	Memory Memory
	// Waits is what all commands on the host know of what servers asked for; nil for nothing but what
	// this agent knows by itself.
	Waits Waits
	// Directories remembers where sinks were, so that what a killed process left there is removed; nil
	// for nobody.
	Directories Directories
	// StrictNotes lets no token request go out that Memory could not note before, which then is a failure
	// that passes. Without it, a memory that fails or does not answer costs no workload its token, and a
	// crash may make the next process send more requests than it should.
	StrictNotes bool
}

// Provider authenticates and sends one client's token requests.
type Provider = provider.Provider

// Failure is a token request that brought no token.
type Failure = exchange.Failure

// Sink is where workloads read tokens. Path is its name, which need not be that of a file.
type Sink = sink.Sink

// Waits is what all commands on a host know of what servers asked for.
type Waits = store.Waits

// Directories remembers, longer than a process lives, in which directories sinks were written.
type Directories interface {
	// AddSinkDirectories adds those in use, each with the user beside the agent's own whom a sink
	// belongs to (-1 for nobody), and returns all that it knows.
	AddSinkDirectories(used map[string]int) (ever map[string]int, err error)
}

// Memory is where the agent keeps what must outlive its process, by tokens' names: [store.Store], or a
// program's own. It may block as long as its file system does.
type Memory interface {
	// LoadAll is called once. Each record that cannot be used is an error of its own.
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
	// sinceBoot is how long ago the machine was started, a suspend included; false where nobody knows.
	sinceBoot func() (time.Duration, bool)
	connect   func(config.Client) (http.RoundTripper, error) // for streams of Shared Signals; nil for the network
}

// realMachine is the one that runs this process.
func realMachine() machine {
	return machine{
		random:  func(string) func() float64 { return rand.Float64 },
		actions: delivery.Actions,
		watch:   filewatch.New,
		clock:   watchClock,

		sinceBoot: clockwatch.SinceBoot,
	}
}

// Agent keeps the tokens of its configuration.
type Agent struct {
	options   Options
	machine   machine
	log       *slog.Logger
	startedAt time.Time
	metrics   *metrics.Metrics
	gates     *gate.Set

	opener     func() func(config.Sink) (Sink, error) // makes what opens the sinks of one configuration
	closeSinks func()                                 // ends what they share

	parts     *parts
	processes processes
	streams   streams
	receiving bool          // streams run; owned by Run's goroutine
	tasks     chan task     // for Run's goroutine
	ended     chan struct{} // closes as Run ends

	unclaimed map[string]store.Record // of tokens that are not there yet; owned by Run's goroutine

	changes    *changes
	observers  observers
	heartbeat  atomic.Pointer[time.Time]     // when the watch last compared the clocks
	bootAhead  time.Duration                 // the clock since boot before the monotonic one; owned by the watch
	lastReload atomic.Pointer[status.Reload] // nil before the first
	checks     sync.WaitGroup                // of files and credentials, in the background
	checking   atomic.Int32                  // checks of the sinks that are under way
}

// New prepares an agent. It touches neither disk nor network and starts no goroutine.
func New(o Options) *Agent { return newAgent(o, realMachine()) }

func newAgent(o Options, m machine) *Agent {
	if o.Config == nil {
		o.Config = config.Empty()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	a := &Agent{
		options:   o,
		machine:   m,
		log:       o.Log,
		startedAt: time.Now(),
		parts:     newParts(config.Empty()),
		tasks:     make(chan task),
		ended:     make(chan struct{}),
		changes:   newChanges(),
		metrics:   metrics.New(o.Registry, o.Version),
	}
	a.opener, a.closeSinks = delivery.Opener(o.Log)
	if o.Sink != nil {
		a.opener = func() func(config.Sink) (Sink, error) { return o.Sink }
	}
	a.gates = gate.NewSet(gate.Options{
		Waits:     o.Waits,
		Roll:      func(clientID string) func() float64 { return m.random("gate " + clientID) },
		Recovered: a.recovered,
		Waiting:   a.changed,
		Replaced:  a.credentialReplaced,
		Metrics:   a.metrics,
		Log:       a.log,

		StrictNotes: o.StrictNotes,
	})
	a.heartbeat.Store(&a.startedAt)
	a.parts.put(a.difference(o.Config))
	return a
}

// Open opens the sinks and takes over what an earlier process remembered. It refuses what cannot
// work on this host, such as a sink in a directory that others can write to, with a [*config.Error].
func (a *Agent) Open() error {
	if a.options.StrictNotes && a.options.Memory == nil {
		return errors.New("strict notes: there is no memory to note requests in")
	}
	e := newEdit()
	e.cfg = a.parts.settings()
	if err := a.openSinks(e); err != nil {
		return err
	}
	a.parts.put(e)
	a.metrics.Begin(e.cfg)
	a.removeLeftOvers()
	a.restore()
	return nil
}

// removeLeftOvers has what killed processes left removed where sinks were.
func (a *Agent) removeLeftOvers() {
	sinks := a.parts.config().Sinks
	a.checks.Go(func() { removeLeftOvers(a.options.Directories, sinks, a.log) })
}

// newest returns the newest token of a name, which is zero while there is none, and since when.
func (a *Agent) newest(name string) (t token.Token, since time.Time) {
	part := a.parts.token(name)
	if part == nil {
		return token.Token{}, time.Time{}
	}
	v := part.keeper.View()
	return v.Token, v.AcquiredAt
}

// token returns the newest token of a name. It is how sinks look tokens up.
func (a *Agent) token(name string) (token.Token, bool) {
	t, _ := a.newest(name)
	return t, !t.AccessToken.IsZero()
}

// deliver has the sinks written that show a token.
func (a *Agent) deliver(name string) {
	for _, s := range a.parts.showing(name) {
		s.writer.Notify()
	}
}

// recovered tells the tokens of clients that an outage has ended.
func (a *Agent) recovered(clients []*config.Client, since time.Time) {
	for _, c := range clients {
		for _, t := range a.parts.tokensOf(c) {
			t.keeper.Adjust(func(attempts policy.Attempts) policy.Attempts { return attempts.Recovered(time.Now(), since) })
		}
	}
}

// changed tells whoever listens that something is different.
func (a *Agent) changed() { a.changes.tell() }

// tokenChanged tells whoever listens that there is news of a token.
func (a *Agent) tokenChanged(name string) {
	a.observers.tell(name)
	a.streams.wake()
	a.changed()
}

// Changes receives a value after something changed; after many changes at once, one that comes no
// sooner than a reader that looks at the status each time has time for. It is for one reader.
func (a *Agent) Changes() <-chan struct{} { return a.changes.told }

// Run keeps the tokens until ctx ends, and returns when everything it started has ended. The files
// stay: the tokens in them are still good. It is called once.
func (a *Agent) Run(ctx context.Context) {
	defer close(a.ended)
	a.receiving = true
	a.run(ctx)
}

func (a *Agent) run(ctx context.Context) {
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		a.watch(ctx)
	}()
	a.start(ctx)
	a.changed() // what was restored may be all there is to say
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case t := <-a.tasks:
			t.done <- t.do(ctx)
		}
	}
	<-watching
	a.stop()
}

// start starts everything. The gates come last, so that of the tokens that are due, the
// one that is due longest goes first; of those that are due alike, the one that is configured first.
func (a *Agent) start(ctx context.Context) {
	list := a.parts.list()
	for _, t := range list.tokens {
		t.keeper.Start(ctx)
	}
	a.gates.Start(ctx)
	for _, s := range list.sinks {
		s.writer.Start()
	}
	if a.receiving {
		a.followStreams(ctx, a.parts.settings().Signals)
	}
}

// stop ends everything and waits for it.
func (a *Agent) stop() {
	list := a.parts.list()
	a.endStreams(func(string) bool { return true })
	for _, t := range list.tokens {
		t.keeper.Stop()
	}
	a.gates.Stop()
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var closing sync.WaitGroup
	for _, s := range list.sinks {
		closing.Go(func() { s.writer.Stop(stopping) })
	}
	for _, t := range list.tokens {
		closing.Go(func() { t.keeper.Close(stopping) })
	}
	closing.Wait()
	a.closeSinks()
	checked := make(chan struct{})
	go func() {
		defer close(checked)
		a.checks.Wait()
	}()
	select { // a file system that hangs must not hold up the end
	case <-checked:
	case <-stopping.Done():
	}
}

// Close ends the providers' processes, and the connection to a Kubernetes cluster, of an agent that does not
// run. [Agent.Run] does so by itself.
func (a *Agent) Close() {
	a.gates.Stop()
	a.closeSinks()
}
