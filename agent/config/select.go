package config

import (
	"slices"
	"strings"

	"github.com/credagent/credagent/sink"
)

// Only returns the part of the configuration for the named tokens: their clients, and
// the sinks that need no other token. No names mean all of it. An unknown name is a problem.
func (c *Config) Only(names []string) (*Config, error) {
	if len(names) == 0 {
		return c, nil
	}
	known := make([]string, len(c.Tokens))
	for i, t := range c.Tokens {
		known[i] = t.Name
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			problem := c.Problem("tokens", "there is no token "+quote(name)+"; there are "+strings.Join(known, ", "))
			return nil, &Error{Problems: []Problem{problem}}
		}
	}
	part := *c
	part.Signals = nil // a stream is the daemon's
	part.Tokens = keep(c.Tokens, func(t Token) bool { return slices.Contains(names, t.Name) })
	part.Clients = keep(c.Clients, func(cl Client) bool {
		return slices.ContainsFunc(part.Tokens, func(t Token) bool { return t.Client == cl.Name })
	})
	part.Sinks = keep(c.Sinks, func(s Sink) bool {
		return !slices.ContainsFunc(s.tokens(), func(name string) bool { return !slices.Contains(names, name) })
	})
	return &part, nil
}

func keep[T any](all []T, wanted func(T) bool) []T {
	var kept []T
	for _, one := range all {
		if wanted(one) {
			kept = append(kept, one)
		}
	}
	return kept
}

// tokens returns the names of the tokens in a sink.
func (s Sink) tokens() []string {
	switch {
	case s.Secret != nil:
		var names []string
		for _, v := range s.Secret.Values {
			names = append(names, v.tokens()...)
		}
		return names
	case s.Type == SinkEnv:
		names := make([]string, len(s.Variables))
		for i, v := range s.Variables {
			names[i] = v.Token
		}
		return names
	case s.Format == sink.FormatTemplate:
		names, _ := templateTokens(s.Template) // validated: it parses
		return names
	}
	return []string{s.Token}
}

// DefaultPlugins returns the default plugin settings.
func DefaultPlugins() Plugins {
	return Plugins{Dirs: []string{defaultPluginDir}, IdleTimeout: defaultIdleTimeout, MaxProcesses: defaultMaxProcesses}
}
