package agent

import (
	"fmt"
	"slices"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/host"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

// access is who may have a token, beside root and the agent's own user.
type access struct {
	users  []int
	groups []int
}

// ResolveAccess looks up who may have a token over the socket or the auth sidecar. It is for who serves one
// of them, before that: until then nobody may. It refuses a name that this host does not know, with a [*config.Error].
func (a *Agent) ResolveAccess() error {
	admitted, err := resolveAccess(a.parts.config())
	if err == nil {
		a.admit(&edit{}, admitted)
	}
	return err
}

// resolveAccess looks up who may have which token. Without a socket and an auth sidecar it looks nobody up:
// names need exist only where they are used.
func resolveAccess(cfg *config.Config) (admitted map[string]*access, err error) {
	if cfg.Socket == nil && cfg.Sidecar == nil {
		return nil, nil
	}
	var problems []config.Problem
	admitted = make(map[string]*access, len(cfg.Tokens))
	for _, t := range cfg.Tokens {
		may := &access{}
		for i, principal := range t.Allow {
			if err := may.admit(principal); err != nil {
				problems = append(problems, cfg.Problem(config.AllowPath(t.Name, i), err.Error()))
			}
		}
		admitted[t.Name] = may
	}
	return admitted, errorOf(problems)
}

// admit lets those have the tokens who were looked up, and nobody else: tokens of an edit, and those that
// it leaves as they are.
func (a *Agent) admit(e *edit, admitted map[string]*access) {
	for name, t := range e.tokens {
		if t != nil {
			t.access.Store(admitted[name])
		}
	}
	for _, t := range a.parts.list().tokens {
		if _, changes := e.tokens[t.name()]; !changes {
			t.access.Store(admitted[t.name()])
		}
	}
}

func (may *access) admit(p config.Principal) error {
	if p.User != "" {
		id, err := host.User(p.User)
		if err != nil {
			return fmt.Errorf("looking up user %q: %w", p.User, err)
		}
		may.users = append(may.users, id)
		return nil
	}
	id, err := host.Group(p.Group)
	if err != nil {
		return fmt.Errorf("looking up group %q: %w", p.Group, err)
	}
	may.groups = append(may.groups, id)
	return nil
}

// Allows reports whether the configuration lets a user, or one of the groups that it is in, have the
// token of a name. There is nobody who may have an unknown one.
func (a *Agent) Allows(name string, user int, groups []int) bool {
	t := a.parts.token(name)
	return t != nil && t.admits(user, groups)
}

func (t *tokenPart) admits(user int, groups []int) bool {
	may := t.access.Load()
	return may != nil && may.allows(user, groups)
}

func (may *access) allows(user int, groups []int) bool {
	return slices.Contains(may.users, user) || slices.ContainsFunc(groups, func(group int) bool {
		return slices.Contains(may.groups, group)
	})
}

// shown is a token in its JSON form, made once for all who ask for it.
type shown struct {
	token token.Token
	json  secret.Value
}

// TokenJSON returns a token that is good now in its JSON form, as a sink of format json would hold
// it. Its errors are those of [Agent.Token].
func (a *Agent) TokenJSON(name string) ([]byte, error) {
	part := a.parts.token(name)
	if part == nil {
		return nil, unknownToken(name)
	}
	t, err := part.token()
	if err != nil {
		return nil, err
	}
	if s := part.shown.Load(); s != nil && s.token == t {
		return []byte(s.json.Reveal()), nil
	}
	text, err := sink.JSON(name).Render(func(string) (token.Token, bool) { return t, true })
	if err != nil {
		return nil, err
	}
	part.shown.Store(&shown{t, secret.New(string(text))})
	return text, nil
}
