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

// ResolveAccess looks up who may have a token over the socket. It is for who serves one, before that:
// until then nobody may. It refuses a name that this host does not know, with a [*config.Error].
func (a *Agent) ResolveAccess() error { return a.parts.Load().resolveAccess() }

// resolveAccess looks nobody up without a socket: names need exist only where they are used.
func (p *parts) resolveAccess() error {
	if p.cfg.Socket == nil {
		return nil
	}
	var problems []config.Problem
	p.access = make(map[string]access, len(p.cfg.Tokens))
	for _, t := range p.cfg.Tokens {
		var may access
		for i, principal := range t.Allow {
			if err := may.admit(principal); err != nil {
				problems = append(problems, p.cfg.Problem(config.AllowPath(t.Name, i), err.Error()))
			}
		}
		p.access[t.Name] = may
	}
	if len(problems) > 0 {
		return &config.Error{Problems: problems}
	}
	return nil
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
	may := a.parts.Load().access[name]
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
	p := a.parts.Load()
	k, ok := p.keepers[name]
	if !ok {
		return nil, unknownToken(name)
	}
	t, err := k.Token()
	if err != nil {
		return nil, err
	}
	if s, ok := p.shown.Load(name); ok && s.(shown).token == t {
		return []byte(s.(shown).json.Reveal()), nil
	}
	text, err := sink.JSON(name).Render(func(string) (token.Token, bool) { return t, true })
	if err != nil {
		return nil, err
	}
	p.shown.Store(name, shown{t, secret.New(string(text))})
	return text, nil
}
