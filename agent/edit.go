package agent

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/delivery"
	"github.com/credagent/credagent/agent/keeper"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/internal/logkey"
)

// edit is what changes of the parts, by a reload or by [Agent.Apply]: the new part of each name, nil for
// one that goes. What stays as it is, is not in it.
type edit struct {
	cfg     *config.Config // a whole new configuration; nil for the one that there is
	clients map[string]*clientPart
	tokens  map[string]*tokenPart
	sinks   map[string]*sinkPart
}

func newEdit() *edit {
	return &edit{clients: map[string]*clientPart{}, tokens: map[string]*tokenPart{}, sinks: map[string]*sinkPart{}}
}

// commit makes an edit come true: it ends what is replaced, waits for that, hands on what it knew, and
// starts what is new. Only the agent's goroutine calls it.
func (a *Agent) commit(ctx context.Context, e *edit) {
	a.retire(e)
	a.inherit(e)
	missed := a.closeReplaced(e)
	old := a.parts.put(e)
	a.startNew(ctx, e)
	a.compareCredentials(ctx)
	for path, next := range e.sinks {
		if next != nil && missed[path] {
			next.writer.RerunActions()
		}
	}
	a.metrics.Begin(e.objects())
	a.metrics.Forget(old.objects(), e.objects())
	for name := range e.tokens {
		a.observers.tell(name)
	}
	if a.receiving {
		a.followStreams(ctx, a.parts.settings().Signals)
	}
}

// objects are what is configured of the parts in the edit.
func (e *edit) objects() *config.Config {
	cfg := &config.Config{}
	for _, c := range e.clients {
		if c != nil {
			cfg.Clients = append(cfg.Clients, *c.cfg)
		}
	}
	for _, t := range e.tokens {
		if t != nil {
			cfg.Tokens = append(cfg.Tokens, *t.cfg)
		}
	}
	for _, s := range e.sinks {
		if s != nil {
			cfg.Sinks = append(cfg.Sinks, s.cfg)
		}
	}
	return cfg
}

// retire stops the tokens and clients that the edit replaces or takes away.
func (a *Agent) retire(e *edit) {
	for name := range e.tokens {
		if was := a.parts.token(name); was != nil {
			was.keeper.Stop()
		}
	}
	for name, next := range e.clients {
		if was := a.parts.client(name); was != nil && was != next {
			was.client.Retire()
		}
	}
}

// inherit hands tokens that are still the right ones to the new keepers: those of the keepers that they
// replace, or what an earlier process saved. It waits for what those have under way.
func (a *Agent) inherit(e *edit) {
	for name, next := range e.tokens {
		if next == nil {
			continue
		}
		if was := a.parts.token(name); was != nil {
			next.keeper.Inherit(was.keeper)
		} else {
			a.claim(next)
		}
	}
}

// closeReplaced ends the saving of tokens that go, and the sinks that the edit replaces or takes away. It
// returns those sinks, by their paths, of which a change was not acted upon.
func (a *Agent) closeReplaced(e *edit) (missed map[string]bool) {
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for name, next := range e.tokens {
		if was := a.parts.token(name); was != nil && next == nil {
			was.keeper.Close(stopping)
		}
	}
	missed = map[string]bool{}
	for path, next := range e.sinks {
		if was := a.parts.sink(path); was != nil && (next == nil || next.writer != was.writer) {
			missed[path] = was.writer.Stop(stopping)
			a.log.Info("sink removed or changed; content left in place", logkey.Sink, path)
		}
	}
	return missed
}

// startNew starts what is new, and has the sinks written that show something new.
func (a *Agent) startNew(ctx context.Context, e *edit) {
	for _, name := range slices.Sorted(maps.Keys(e.tokens)) {
		if next := e.tokens[name]; next != nil {
			next.keeper.Start(ctx)
		}
	}
	for name := range e.tokens {
		for _, s := range a.parts.showing(name) {
			s.writer.Start()
		}
	}
	for _, next := range e.sinks {
		if next != nil {
			next.writer.Start()
		}
	}
}

// abandon ends what was made for an edit that will not be made.
func (e *edit) abandon() {
	for _, c := range e.clients {
		if c != nil {
			c.client.Retire()
		}
	}
}

// newClient makes a client of a configuration with the given settings. It retires at the end, or where it is
// not made use of.
func (a *Agent) newClient(cfg config.Client, settings *config.Config) *clientPart {
	return &clientPart{cfg: &cfg, client: a.gates.NewClient(&cfg, a.providers(settings.Plugins), settings.Expanded())}
}

func (a *Agent) newToken(cfg config.Token, c *clientPart) *tokenPart {
	name := cfg.Name // what the closure keeps of it
	options := keeper.Options{
		Deliver: a.deliver, Changed: func() { a.tokenChanged(name) }, Roll: a.machine.random("token " + cfg.Name), Metrics: a.metrics, Log: a.log,
	}
	if a.options.Memory != nil {
		options.Save = a.options.Memory.Save
	}
	return &tokenPart{cfg: &cfg, client: c, keeper: keeper.New(&cfg, c.client, options)}
}

func (a *Agent) newSink(cfg config.Sink, s Sink, place int) *sinkPart {
	return &sinkPart{cfg: cfg, sink: s, place: place, writer: delivery.NewWriter(s, delivery.Options{
		Newest:  a.newest,
		Actions: a.machine.actions(cfg, s, a.token, a.log),
		Roll:    a.machine.random("sink " + cfg.Path),
		Changed: a.changed,
		Metrics: a.metrics,
		Log:     a.log,
	})}
}

// processes makes the providers of clients' credentials, in processes that go by the same settings.
type processes struct {
	mu      sync.Mutex
	plugins config.Plugins // guarded by mu, as is open
	open    func(provider.Spec) Provider
}

// providers returns what makes the providers of clients' credentials.
func (a *Agent) providers(plugins config.Plugins) func(provider.Spec) Provider {
	if a.options.Provider != nil {
		return a.options.Provider
	}
	a.processes.mu.Lock()
	defer a.processes.mu.Unlock()
	if a.processes.open == nil || !reflect.DeepEqual(a.processes.plugins, plugins) {
		a.processes.plugins, a.processes.open = plugins, a.newProcesses(plugins)
	}
	return a.processes.open
}

func (a *Agent) newProcesses(plugins config.Plugins) func(provider.Spec) Provider {
	processes := provider.New(provider.Options{
		Builtin:      a.options.Builtin,
		Dirs:         plugins.Dirs,
		SHA256:       plugins.SHA256,
		IdleTimeout:  plugins.IdleTimeout,
		MaxProcesses: plugins.MaxProcesses,
		Log:          a.log,
		Started:      a.metrics.Started,
	})
	return func(spec provider.Spec) Provider { return processes.Process(spec) }
}

// sameClient compares all but where the client stands in the file.
func sameClient(a, b config.Client) bool {
	return reflect.DeepEqual(withoutPosition(a), withoutPosition(b))
}

func withoutPosition(c config.Client) config.Client {
	c.Credential.Path = ""
	if c.FallbackCredential != nil {
		moved := *c.FallbackCredential
		moved.Path = ""
		c.FallbackCredential = &moved
	}
	return c
}

// sameSink compares all but where the sink stands in the file.
func sameSink(a, b config.Sink) bool {
	a.Place = b.Place
	return reflect.DeepEqual(a, b)
}
