package agent

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
)

// parts is everything that one configuration asks for. It is never changed once it is in use; a
// reload makes new parts and takes over from the old what the new configuration left as it was.
type parts struct {
	cfg     *config.Config
	gates   map[gateKey]*gate
	clients map[string]*client
	keepers map[string]*keeper
	writers []*writer
	shows   map[string][]*writer // by token
	access  map[string]access    // by token; nil without a socket
}

// assemble makes the parts of a configuration, without sinks. What is the same in old stays the
// same part, with all its state.
func (a *Agent) assemble(cfg *config.Config, old *parts) *parts {
	p := &parts{
		cfg:     cfg,
		gates:   make(map[gateKey]*gate, len(cfg.Clients)),
		clients: make(map[string]*client, len(cfg.Clients)),
		keepers: make(map[string]*keeper, len(cfg.Tokens)),
		shows:   map[string][]*writer{},
	}
	// A gate outlives its clients until nothing is left of what the server asked for.
	for key, g := range old.gates {
		if time.Now().Before(g.published.Load().OpensAt()) {
			p.gates[key] = g
		}
	}
	a.addClients(p, old)
	a.addTokens(p, old)
	return p
}

func (a *Agent) addClients(p, old *parts) {
	host := a.processes(p.cfg)
	for _, c := range p.cfg.Clients {
		g := p.gate(keyOf(c), old)
		if g == nil {
			g = newGate(a.log, a.options.Random("gate "+c.ClientID), a.recovered)
			p.gates[keyOf(c)] = g
		}
		if was, ok := old.clients[c.Name]; ok && sameClient(was.cfg, c) && samePlugins(old.cfg, p.cfg) {
			p.clients[c.Name] = was
			continue
		}
		p.clients[c.Name] = newClient(c, g, host, a.metrics, a.log)
	}
}

// gate returns the gate of a key, from old if it is there.
func (p *parts) gate(key gateKey, old *parts) *gate {
	if g, ok := old.gates[key]; ok {
		p.gates[key] = g
	}
	return p.gates[key]
}

func (a *Agent) addTokens(p, old *parts) {
	deliver, changed := a.deliver, a.changed // one for all of them
	for _, t := range p.cfg.Tokens {
		c := p.clients[t.Client]
		if was, ok := old.keepers[t.Name]; ok && was.client == c && reflect.DeepEqual(was.cfg, t) {
			p.keepers[t.Name] = was
			continue
		}
		made := newKeeper(t, c, newRecorder(t.Name, a.options.Memory, a.log), a.options.Random("token "+t.Name), a.log)
		made.deliver, made.changed = deliver, changed
		p.keepers[t.Name] = made
	}
}

// processes makes the providers of clients' credentials.
func (a *Agent) processes(cfg *config.Config) func(provider.Spec) Provider {
	if a.options.Provider != nil {
		return a.options.Provider
	}
	host := provider.New(provider.Options{
		Builtin:     a.options.Builtin,
		Dirs:        cfg.Plugins.Dirs,
		SHA256:      cfg.Plugins.SHA256,
		IdleTimeout: cfg.Plugins.IdleTimeout,
		Log:         a.log,
		Started:     a.metrics.started,
	})
	return func(spec provider.Spec) Provider { return host.Process(spec) }
}

// sameClient compares all but where the client stands in the file.
func sameClient(a, b config.Client) bool {
	return reflect.DeepEqual(placeless(a), placeless(b))
}

func placeless(c config.Client) config.Client {
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
		open[w.sink.Path()] = i
	}
	opener := a.opener()
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
	a.metrics.begin(p.cfg)
	return nil
}

func (p *parts) add(w *writer) {
	p.writers = append(p.writers, w)
	for _, name := range w.sink.Tokens() {
		p.shows[name] = append(p.shows[name], w)
	}
}

// sameSink compares all but where the sink stands in the file.
func sameSink(a, b config.Sink) bool {
	a.Place = b.Place
	return reflect.DeepEqual(a, b)
}

func (a *Agent) openSink(cfg config.Sink, open func(config.Sink) (Sink, error)) (*writer, error) {
	s, err := open(cfg)
	if err != nil {
		return nil, err
	}
	w := newWriter(s, a.token, a.metrics, a.log)
	w.roll = a.options.Random("sink " + cfg.Path)
	w.changed = a.changed
	w.react(a.options.Actions(cfg, s))
	return w, nil
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
		for _, c := range p.clients[cfg.Name].credentials {
			answer := make(chan []config.Problem, 1)
			a.looks.Go(func() { answer <- a.checkCredential(ctx, p.cfg, c, load) })
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

func (a *Agent) checkCredential(ctx context.Context, cfg *config.Config, c *credential, load bool) []config.Problem {
	path := c.cfg.Path
	said, wrong, err := c.provider.Check(ctx, load)
	c.learn(said)
	problems := cfg.Overwritten(c.cfg, said.Files)
	for _, problem := range wrong {
		at := path + ".config"
		if problem.Key != "" {
			at += "." + problem.Key
		}
		problems = append(problems, cfg.Problem(at, problem.Message))
	}
	var failure *provider.Failure
	switch {
	case errors.As(err, &failure) && failure.Kind == provider.KindConfig:
		problems = append(problems, cfg.Problem(path+".provider", failure.Message))
	case err != nil && load:
		problems = append(problems, cfg.Problem(path, err.Error()))
	case err != nil: // it may be better when it is needed; the request will tell
		c.log.Warn("provider could not be asked", keyError, err)
	}
	return problems
}
