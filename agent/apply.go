package agent

import (
	"context"
	"fmt"
	"reflect"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
)

// Change is one client, token or sink that is added, changed or removed: what [SetClient] and the others
// make, for [Agent.Apply].
type Change struct {
	// prepare does what may take time, in the goroutine of who applies the change. It returns what the
	// agent's goroutine does.
	prepare func(ctx context.Context, a *Agent) (*prepared, error)
}

// prepared is a change that was checked by itself.
type prepared struct {
	// edit makes the edit of it, or says what of the rest does not fit; nil where there is nothing to do.
	edit    func() (*edit, error)
	abandon func() // called if the edit is not made; may be nil
}

// Apply adds, changes or removes one client, token or sink of a running agent, at a cost to the agent that
// does not depend on how many others there are. Whoever applies a client or a sink waits for a look at the
// files of the others, which takes the longer the more there are. After an error, which is a [*config.Error] or that of ctx, nothing
// has changed. What is not changed keeps its schedule and its waits; what is changed starts anew, but for
// what its server asked for. A change of a client is one of its tokens too. What is there just so already
// stays as it is, and so does what is to be removed and is not there.
//
// Apply waits until the agent runs, and may be called from several goroutines.
func (a *Agent) Apply(ctx context.Context, c Change) error {
	p, err := c.prepare(ctx, a)
	if err != nil {
		return err
	}
	applied := false
	err = a.perform(ctx, func(ctx context.Context) error {
		e, err := p.edit()
		if err != nil || e == nil {
			return err
		}
		applied = true
		a.commit(ctx, e)
		e.resetBackoff()
		a.changed()
		return nil
	})
	if !applied && p.abandon != nil {
		p.abandon()
	}
	return err
}

// resetBackoff ends the waits of our own of what changed: it may be what was missing.
func (e *edit) resetBackoff() {
	for _, c := range e.clients {
		if c != nil {
			c.client.ResetBackoff()
		}
	}
	for _, t := range e.tokens {
		if t != nil {
			t.keeper.Adjust(policy.Attempts.WithoutBackoff)
		}
	}
}

// SetClient adds a client, or changes the one of that name and with it its tokens. Its provider is asked
// whether the configuration is sound. What is left out has its default, see [config.CompleteClient].
func SetClient(c config.Client) Change {
	return Change{func(ctx context.Context, a *Agent) (*prepared, error) {
		c, err := config.CompleteClient(c)
		if err != nil {
			return nil, err
		}
		if was := a.parts.client(c.Name); was != nil && sameClient(*was.cfg, c) {
			return &prepared{edit: func() (*edit, error) { return nil, nil }}, nil
		}
		part := a.newClient(c, a.parts.settings())
		if err := a.askOne(ctx, part); err != nil {
			part.client.Retire()
			return nil, err
		}
		return &prepared{edit: func() (*edit, error) { return a.clientEdit(part) }, abandon: part.client.Retire}, nil
	}}
}

// clientEdit puts a client in the place of another one, with all its tokens.
func (a *Agent) clientEdit(next *clientPart) (*edit, error) {
	e := newEdit()
	name := next.name()
	e.clients[name] = next
	was := a.parts.client(name)
	if was == nil {
		return e, nil
	}
	for _, t := range a.parts.tokensOf(was.cfg) {
		cfg, err := config.CompleteToken(*t.cfg, *next.cfg)
		if err != nil {
			return nil, err // such as a scope that Entra ID does not know
		}
		e.tokens[cfg.Name] = a.newToken(cfg, next)
		e.tokens[cfg.Name].access.Store(t.access.Load())
	}
	return e, nil
}

// SetToken adds a token, or changes the one of that name. Its client is there already. What is left out
// has its default, see [config.CompleteToken].
func SetToken(t config.Token) Change {
	return Change{func(_ context.Context, a *Agent) (*prepared, error) {
		var may *access
		if a.parts.settings().Socket != nil {
			admitted, err := resolveAccess(&config.Config{Socket: &config.Socket{}, Tokens: []config.Token{t}})
			if err != nil {
				return nil, err
			}
			may = admitted[t.Name]
		}
		return &prepared{edit: func() (*edit, error) { return a.tokenEdit(t, may) }}, nil
	}}
}

func (a *Agent) tokenEdit(t config.Token, may *access) (*edit, error) {
	c, of := a.parts.client(t.Client), config.Client{}
	if c != nil {
		of = *c.cfg
	}
	t, err := config.CompleteToken(t, of)
	if err != nil {
		return nil, err
	}
	was := a.parts.token(t.Name)
	if was != nil && was.client == c && reflect.DeepEqual(*was.cfg, t) {
		was.access.Store(may)
		return nil, nil
	}
	e := newEdit()
	e.tokens[t.Name] = a.newToken(t, c)
	e.tokens[t.Name].access.Store(may)
	return e, nil
}

// SetSink adds a sink, or changes the one of that path. The tokens that it shows are there already. What
// is left out has its default, see [config.CompleteSink].
func SetSink(s config.Sink) Change {
	return Change{func(_ context.Context, a *Agent) (*prepared, error) {
		s, err := config.CompleteSink(s)
		if err != nil {
			return nil, err
		}
		if was := a.parts.sink(s.Path); was != nil && sameSink(was.cfg, s) {
			return &prepared{edit: func() (*edit, error) { return nil, nil }}, nil
		}
		if err := errorOf(a.sinkApart(s)); err != nil {
			return nil, err
		}
		opened, err := a.opener()(s)
		if err != nil {
			return nil, problem(s.OutputKey(), err.Error())
		}
		return &prepared{edit: func() (*edit, error) { return a.sinkEdit(s, opened) }}, nil
	}}
}

// AttachSink adds a sink of the program's own, in the place of another one of its path, which need not be
// a file's. The tokens that it shows are there already.
func AttachSink(s Sink) Change {
	return Change{func(_ context.Context, a *Agent) (*prepared, error) {
		return &prepared{edit: func() (*edit, error) { return a.sinkEdit(config.Sink{Path: s.Path()}, s) }}, nil
	}}
}

func (a *Agent) sinkEdit(cfg config.Sink, s Sink) (*edit, error) {
	at := fmt.Sprintf("sinks[%q]", cfg.Path)
	for _, name := range s.Tokens() {
		if a.parts.token(name) == nil {
			return nil, problem(at, fmt.Sprintf("unknown token %q", name))
		}
	}
	settings := a.parts.settings()
	if settings.Socket != nil && settings.Socket.Path == cfg.Path || settings.Identity != nil && settings.Identity.HeaderFile == cfg.Path {
		return nil, problem(at, "the agent writes that file itself")
	}
	place := a.parts.lastPlace() + 1
	if was := a.parts.sink(cfg.Path); was != nil {
		place = was.place
	}
	e := newEdit()
	e.sinks[cfg.Path] = a.newSink(cfg, s, place)
	return e, nil
}

// RemoveClient removes a client that has no tokens any more.
func RemoveClient(name string) Change {
	return removal(func(a *Agent) (*edit, error) {
		c := a.parts.client(name)
		if c == nil {
			return nil, nil
		}
		if tokens := a.parts.tokensOf(c.cfg); len(tokens) > 0 {
			return nil, problem("clients."+name, fmt.Sprintf("token %q is still issued to it", tokens[0].name()))
		}
		e := newEdit()
		e.clients[name] = nil
		return e, nil
	})
}

// RemoveToken removes a token that no sink shows any more, and that neither the identity endpoint nor the
// auth sidecar hands out. It is not revoked: whoever has it may use it until it expires.
func RemoveToken(name string) Change {
	return removal(func(a *Agent) (*edit, error) {
		if a.parts.token(name) == nil {
			return nil, nil
		}
		if sinks := a.parts.showing(name); len(sinks) > 0 {
			return nil, problem("tokens."+name, fmt.Sprintf("sink %q still shows it", sinks[0].path()))
		}
		if use := handedOut(a.parts.settings(), name); use != "" {
			return nil, problem("tokens."+name, use)
		}
		for _, stream := range a.streams.all() {
			if cfg, _ := stream.Config(); cfg.Token == name {
				return nil, problem("tokens."+name, fmt.Sprintf("the stream %q of signals still uses it", cfg.Name))
			}
		}
		e := newEdit()
		e.tokens[name] = nil
		return e, nil
	})
}

// handedOut reports which endpoint still hands out a token; "" for none.
func handedOut(settings *config.Config, name string) string {
	if settings.Identity != nil {
		for resource, of := range settings.Identity.TokenFor {
			if of == name {
				return fmt.Sprintf("the identity endpoint still has it for the resource %q", resource)
			}
		}
	}
	if settings.Sidecar != nil {
		for api, of := range settings.Sidecar.TokenFor {
			if of == name {
				return fmt.Sprintf("the auth sidecar still has it for the API %q", api)
			}
		}
	}
	return ""
}

// RemoveSink removes the sink of a path. A file stays as it is: the token in it is still good.
func RemoveSink(path string) Change {
	return removal(func(a *Agent) (*edit, error) {
		if a.parts.sink(path) == nil {
			return nil, nil
		}
		e := newEdit()
		e.sinks[path] = nil
		return e, nil
	})
}

func removal(make func(a *Agent) (*edit, error)) Change {
	return Change{func(_ context.Context, a *Agent) (*prepared, error) {
		return &prepared{edit: func() (*edit, error) { return make(a) }}, nil
	}}
}

// problem is the error of one problem of what a program made.
func problem(path, message string) error {
	return errorOf([]config.Problem{{Path: path, Message: message}})
}
