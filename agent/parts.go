package agent

import (
	"context"
	"reflect"
	"sync"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/delivery"
	"github.com/credagent/credagent/agent/gate"
	"github.com/credagent/credagent/agent/keeper"
	"github.com/credagent/credagent/agent/provider"
)

// parts is everything that one configuration asks for. It is never changed once it is in use; a
// reload makes new parts and takes over from the old what the new configuration left as it was.
type parts struct {
	cfg     *config.Config
	clients map[string]*gate.Client
	keepers map[string]*keeper.Keeper
	writers []*delivery.Writer
	shows   map[string][]*delivery.Writer // by token
	access  map[string]access             // by token; nil without a socket
	shown   sync.Map                      // by token: the JSON form that was asked for last
	open    func(provider.Spec) Provider  // makes the providers of clients' credentials
}

// assemble makes the parts of a configuration, without sinks. What is the same in old stays the
// same part, with all its state.
func (a *Agent) assemble(cfg *config.Config, old *parts) *parts {
	p := &parts{
		cfg:     cfg,
		clients: make(map[string]*gate.Client, len(cfg.Clients)),
		keepers: make(map[string]*keeper.Keeper, len(cfg.Tokens)),
		shows:   map[string][]*delivery.Writer{},
	}
	// One pool of processes, also for what comes with a reload.
	if p.open = old.open; p.open == nil || !samePlugins(old.cfg, cfg) {
		p.open = a.providers(cfg)
	}
	a.addClients(p, old)
	a.addTokens(p, old)
	return p
}

func (a *Agent) addClients(p, old *parts) {
	options := gate.ClientOptions{Open: p.open, Replaced: a.credentialReplaced, Metrics: a.metrics, Log: a.log}
	for _, c := range p.cfg.Clients {
		if was, ok := old.clients[c.Name]; ok && sameClient(*was.Config(), c) && samePlugins(old.cfg, p.cfg) {
			p.clients[c.Name] = was
			continue
		}
		p.clients[c.Name] = gate.NewClient(c, a.gates, options)
	}
}

func (a *Agent) addTokens(p, old *parts) {
	options := keeper.Options{Deliver: a.deliver, Changed: a.changed, Metrics: a.metrics, Log: a.log}
	if a.options.Memory != nil {
		options.Save = a.options.Memory.Save
	}
	for _, t := range p.cfg.Tokens {
		c := p.clients[t.Client]
		if was, ok := old.keepers[t.Name]; ok && was.Client() == c && reflect.DeepEqual(*was.Config(), t) {
			p.keepers[t.Name] = was
			continue
		}
		options.Roll = a.machine.random("token " + t.Name)
		p.keepers[t.Name] = keeper.New(t, c, options)
	}
}

// providers returns what makes the providers of clients' credentials.
func (a *Agent) providers(cfg *config.Config) func(provider.Spec) Provider {
	if a.options.Provider != nil {
		return a.options.Provider
	}
	processes := provider.New(provider.Options{
		Builtin:      a.options.Builtin,
		Dirs:         cfg.Plugins.Dirs,
		SHA256:       cfg.Plugins.SHA256,
		IdleTimeout:  cfg.Plugins.IdleTimeout,
		MaxProcesses: cfg.Plugins.MaxProcesses,
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

func samePlugins(a, b *config.Config) bool { return reflect.DeepEqual(a.Plugins, b.Plugins) }

// openSinks opens the sinks of p, but for those that old has open just so.
func (a *Agent) openSinks(p, old *parts) error {
	var problems []config.Problem
	open := make(map[string]int, len(old.writers)) // path → index in old
	for i, w := range old.writers {
		open[w.Path()] = i
	}
	opener := a.options.Sink
	if opener == nil {
		opener = delivery.Opener()
	}
	for _, cfg := range p.cfg.Sinks {
		if i, ok := open[cfg.Path]; ok && sameSink(old.cfg.Sinks[i], cfg) {
			p.add(old.writers[i])
			continue
		}
		w, err := a.openSink(cfg, opener)
		if err != nil {
			problems = append(problems, p.cfg.Problem(cfg.Place+".path", err.Error()))
			continue
		}
		p.add(w)
	}
	if len(problems) > 0 {
		return &config.Error{Problems: problems}
	}
	a.metrics.Begin(p.cfg)
	return nil
}

func (p *parts) add(w *delivery.Writer) {
	p.writers = append(p.writers, w)
	for _, name := range w.Tokens() {
		p.shows[name] = append(p.shows[name], w)
	}
}

// sameSink compares all but where the sink stands in the file.
func sameSink(a, b config.Sink) bool {
	a.Place = b.Place
	return reflect.DeepEqual(a, b)
}

func (a *Agent) openSink(cfg config.Sink, open func(config.Sink) (Sink, error)) (*delivery.Writer, error) {
	s, err := open(cfg)
	if err != nil {
		return nil, err
	}
	return delivery.NewWriter(s, delivery.Options{
		Newest:  a.newest,
		Actions: a.machine.actions(cfg, s, a.token, a.log),
		Roll:    a.machine.random("sink " + cfg.Path),
		Changed: a.changed,
		Metrics: a.metrics,
		Log:     a.log,
	}), nil
}

// Check asks every client's provider whether its configuration is sound and, if load, whether the
// credential could be used. It sends nothing to a server. Its error is a [*config.Error].
func (a *Agent) Check(ctx context.Context, load bool) error {
	return a.check(ctx, a.parts.Load(), load)
}

// CheckSoon is [Agent.Check] without loading, for a start: a provider that does not answer while
// waiting lasts holds up nobody but its own client, whose first request comes after its answer.
func (a *Agent) CheckSoon(ctx, waiting context.Context) error {
	return problemsOf(waiting, a.ask(ctx, a.parts.Load(), false))
}

func (a *Agent) check(ctx context.Context, p *parts, load bool) error {
	return problemsOf(context.Background(), a.ask(ctx, p, load))
}

// ask asks every credential's provider; the answers come in the order of the configuration.
func (a *Agent) ask(ctx context.Context, p *parts, load bool) []<-chan []config.Problem {
	var answers []<-chan []config.Problem
	for _, cfg := range p.cfg.Clients {
		for _, check := range p.clients[cfg.Name].Checks(p.cfg, load) {
			answer := make(chan []config.Problem, 1)
			a.looks.Go(func() { answer <- check(ctx) })
			answers = append(answers, answer)
		}
	}
	return answers
}

// problemsOf joins the answers that come while waiting lasts.
func problemsOf(waiting context.Context, answers []<-chan []config.Problem) error {
	var problems []config.Problem
	for _, answer := range answers {
		select {
		case found := <-answer:
			problems = append(problems, found...)
			continue
		case <-waiting.Done():
		}
		select { // those that are there are not lost on one that is not
		case found := <-answer:
			problems = append(problems, found...)
		default:
		}
	}
	if len(problems) > 0 {
		return &config.Error{Problems: problems}
	}
	return nil
}
