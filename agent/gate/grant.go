package gate

import (
	"context"
	"errors"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/internal/logkey"
)

// grantOf returns what the provider adds to the form of a token's requests; nil for client_credentials.
func grantOf(t *config.Token) *provider.Grant {
	if t == nil {
		return nil
	}
	switch t.Grant {
	case config.GrantJWTBearer:
		return &provider.Grant{Assertion: &provider.Assertion{Subject: t.Subject, Claims: t.AssertionClaims, Scopes: t.Scopes}}
	case config.GrantTokenExchange:
		return &provider.Grant{SubjectToken: &provider.SubjectToken{Type: t.SubjectTokenType}}
	}
	return nil
}

// grantChecker is a provider that can check other grants than client_credentials in advance. One that a program adds
// itself need not implement it.
type grantChecker interface {
	CheckGrant(ctx context.Context, g provider.Grant, load bool) ([]provider.Problem, error)
}

// checkGrants asks the provider about the grants of the client's tokens.
func (c *credential) checkGrants(ctx context.Context, client string, cfg *config.Config, load bool) []config.Problem {
	checker, able := c.provider.(grantChecker)
	if !able {
		return nil
	}
	var problems []config.Problem
	for _, t := range cfg.Tokens {
		grant := grantOf(&t)
		if grant == nil || t.Client != client {
			continue
		}
		path := "tokens." + t.Name
		wrong, err := checker.CheckGrant(ctx, *grant, load)
		for _, problem := range wrong {
			at := path
			if problem.Key != "" {
				at += "." + problem.Key
			}
			problems = append(problems, cfg.Problem(at, problem.Message))
		}
		var failure *provider.Failure
		switch {
		case err == nil:
		case load || errors.As(err, &failure) && failure.Kind == provider.KindConfig:
			problems = append(problems, cfg.Problem(path, err.Error()))
		default:
			c.log.Warn("provider could not be asked", logkey.Token, t.Name, logkey.Error, err)
		}
	}
	return problems
}
