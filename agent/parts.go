package agent

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/delivery"
	"github.com/credagent/credagent/agent/gate"
	"github.com/credagent/credagent/agent/keeper"
	"github.com/credagent/credagent/sink"
)

// parts is everything that runs, by the names of the configuration. Only the agent's goroutine changes
// it, by an [edit], at a cost that does not grow with what stays. Anybody may read it: what is found is
// replaced as a whole, and never changed.
type parts struct {
	mu      sync.RWMutex
	cfg     *config.Config         // guarded by mu, as is all that follows; the settings, and what was configured at once
	applied bool                   // clients, tokens and sinks are not those of cfg any more
	clients map[string]*clientPart // by name
	tokens  map[string]*tokenPart  // by name
	sinks   map[string]*sinkPart   // by path
	shows   map[string][]*sinkPart // by token; the slices are never changed
	places  int                    // sinks that there ever were
	listed  *listing               // nil after a change
}

type clientPart struct {
	cfg    *config.Client
	client *gate.Client
	tokens []*tokenPart // guarded by parts.mu
}

type tokenPart struct {
	cfg    *config.Token
	client *clientPart
	keeper *keeper.Keeper
	access atomic.Pointer[access]
	shown  atomic.Pointer[shown] // the JSON form that was asked for last
	at     int                   // in its client's tokens; guarded by parts.mu
}

type sinkPart struct {
	cfg    config.Sink // with a path alone, for a sink of the program's own
	sink   sink.Sink
	writer *delivery.Writer
	place  int // among the sinks
}

// listing is the parts in the order in which they are shown.
type listing struct {
	clients []*clientPart
	tokens  []*tokenPart
	sinks   []*sinkPart
}

func newParts(cfg *config.Config) *parts {
	return &parts{
		cfg:     cfg,
		clients: map[string]*clientPart{}, tokens: map[string]*tokenPart{}, sinks: map[string]*sinkPart{},
		shows: map[string][]*sinkPart{},
	}
}

func (t *tokenPart) name() string { return t.cfg.Name }

func (c *clientPart) name() string { return c.cfg.Name }

func (s *sinkPart) path() string { return s.cfg.Path }

// settings are the configuration as far as it is about neither a client, a token nor a sink.
func (p *parts) settings() *config.Config {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.cfg
}

// config is the whole configuration.
func (p *parts) config() *config.Config {
	list := p.list()
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.applied {
		return p.cfg
	}
	whole := *p.cfg
	whole.Clients, whole.Tokens, whole.Sinks = nil, nil, nil
	for _, c := range list.clients {
		whole.Clients = append(whole.Clients, *c.cfg)
	}
	for _, t := range list.tokens {
		whole.Tokens = append(whole.Tokens, *t.cfg)
	}
	for _, s := range list.sinks {
		whole.Sinks = append(whole.Sinks, s.cfg)
	}
	return &whole
}

// files is the configuration as far as it says what is read and written, in no order: of tokens only whose
// they are.
func (p *parts) files() *config.Config {
	p.mu.RLock()
	defer p.mu.RUnlock()
	cfg := *p.cfg
	cfg.Clients = make([]config.Client, 0, len(p.clients))
	cfg.Tokens = make([]config.Token, 0, len(p.tokens))
	cfg.Sinks = make([]config.Sink, 0, len(p.sinks))
	for _, c := range p.clients {
		cfg.Clients = append(cfg.Clients, *c.cfg)
	}
	for _, t := range p.tokens {
		cfg.Tokens = append(cfg.Tokens, config.Token{Name: t.cfg.Name, Client: t.cfg.Client})
	}
	for _, s := range p.sinks {
		cfg.Sinks = append(cfg.Sinks, s.cfg)
	}
	return &cfg
}

// running are the clients, in no order.
func (p *parts) running() []*clientPart {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.Collect(maps.Values(p.clients))
}

func (p *parts) client(name string) *clientPart {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.clients[name]
}

func (p *parts) token(name string) *tokenPart {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.tokens[name]
}

func (p *parts) sink(path string) *sinkPart {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.sinks[path]
}

// showing returns the sinks that show a token. The slice is not to be changed.
func (p *parts) showing(token string) []*sinkPart {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.shows[token]
}

// tokensOf returns the tokens of a client, sorted by name; none if it was replaced.
func (p *parts) tokensOf(c *config.Client) []*tokenPart {
	p.mu.RLock()
	defer p.mu.RUnlock()
	part := p.clients[c.Name]
	if part == nil || part.cfg != c {
		return nil
	}
	return slices.SortedFunc(slices.Values(part.tokens), byToken)
}

// lastPlace is that of the last sink there ever was.
func (p *parts) lastPlace() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.places - 1
}

// list returns the parts in order. A change costs whoever reads the list next, not who makes it.
func (p *parts) list() *listing {
	p.mu.RLock()
	list := p.listed
	p.mu.RUnlock()
	if list != nil {
		return list
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listed = &listing{
		clients: slices.SortedFunc(maps.Values(p.clients), func(a, b *clientPart) int { return cmp.Compare(a.name(), b.name()) }),
		tokens:  slices.SortedFunc(maps.Values(p.tokens), byToken),
		sinks:   slices.SortedFunc(maps.Values(p.sinks), func(a, b *sinkPart) int { return cmp.Compare(a.place, b.place) }),
	}
	return p.listed
}

func byToken(a, b *tokenPart) int { return cmp.Compare(a.name(), b.name()) }

// put makes an edit visible, and returns what it replaces.
func (p *parts) put(e *edit) (old *edit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old = newEdit()
	if e.cfg != nil {
		p.cfg, p.applied = e.cfg, false
	} else {
		p.applied = true
	}
	for name, next := range e.clients {
		p.putClient(name, next, old)
	}
	for name, next := range e.tokens {
		p.putToken(name, next, old)
	}
	for path, next := range e.sinks {
		p.putSink(path, next, old)
	}
	p.listed = nil
	return old
}

func (p *parts) putClient(name string, next *clientPart, old *edit) {
	if was := p.clients[name]; was != nil {
		old.clients[name] = was
		delete(p.clients, name)
	}
	if next != nil {
		p.clients[name] = next
	}
}

func (p *parts) putToken(name string, next *tokenPart, old *edit) {
	if was := p.tokens[name]; was != nil {
		old.tokens[name] = was
		if c := p.clients[was.cfg.Client]; c == was.client {
			last := c.tokens[len(c.tokens)-1]
			last.at, c.tokens[was.at] = was.at, last
			c.tokens[len(c.tokens)-1] = nil
			c.tokens = c.tokens[:len(c.tokens)-1]
		}
		delete(p.tokens, name)
	}
	if next != nil {
		next.at = len(next.client.tokens)
		next.client.tokens = append(next.client.tokens, next)
		p.tokens[name] = next
	}
}

func (p *parts) putSink(path string, next *sinkPart, old *edit) {
	if was := p.sinks[path]; was != nil {
		old.sinks[path] = was
		for _, name := range was.sink.Tokens() {
			rest := slices.DeleteFunc(slices.Clone(p.shows[name]), func(s *sinkPart) bool { return s == was })
			if p.shows[name] = rest; len(rest) == 0 {
				delete(p.shows, name)
			}
		}
		delete(p.sinks, path)
	}
	if next != nil {
		for _, name := range next.sink.Tokens() {
			p.shows[name] = append(slices.Clip(p.shows[name]), next)
		}
		p.sinks[path] = next
		p.places = max(p.places, next.place+1)
	}
}
