package provider

import (
	"context"
	"encoding/json"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/credagent/credagent/internal/printable"
	"github.com/credagent/credagent/plugins/providerpb"
)

// CheckGrant checks whether the provider could do its part of a grant, with the client's configuration. It
// makes no token request. The problems are the token's, by its keys; the error is a [*Failure], or the
// context's.
func (p *Process) CheckGrant(ctx context.Context, g Grant, load bool) (problems []Problem, err error) {
	var failure *Failure
	err = p.call(ctx, p.host.options.limits.check, want{loads: load}, func(ctx context.Context, client providerpb.ProviderClient) (err error) {
		problems, failure, err = checkGrant(ctx, client, p.spec.Config, g, load)
		return err
	})
	if err == nil && failure != nil {
		err = failure
	}
	return problems, err
}

// CheckGrant is [Process.CheckGrant] over a connection that somebody else has made.
func CheckGrant(ctx context.Context, client providerpb.ProviderClient, config json.RawMessage, g Grant, load bool) ([]Problem, error) {
	problems, failure, err := checkGrant(ctx, client, config, g, load)
	if err == nil && failure != nil {
		err = failure
	}
	return problems, err
}

// checkGrant asks once. Its error means that there is no reply, or one that makes no sense.
func checkGrant(ctx context.Context, client providerpb.ProviderClient, config json.RawMessage, g Grant, load bool) ([]Problem, *Failure, error) {
	out, err := client.CheckGrant(ctx, &providerpb.CheckGrantRequest{Config: config, Grant: g.wire(), Load: load})
	switch {
	case status.Code(err) == codes.Unimplemented:
		return []Problem{{Key: "grant", Message: tooOld().Message}}, nil, nil
	case err != nil:
		return nil, nil, err
	case len(out.GetProblems()) > maxProblems:
		return nil, nil, nonsense("more problems than a token can have")
	}
	var problems []Problem
	for _, problem := range out.GetProblems() {
		problems = append(problems, Problem{Key: printable.Text(problem.GetKey(), maxText), Message: printable.Text(problem.GetMessage(), maxText)})
	}
	if failure := out.GetFailure(); failure != nil {
		return problems, readFailure(failure, Credential{}), nil
	}
	return problems, nil, nil
}

// tooOld is the failure of a provider that was built before there was more than one grant: it would make
// the request without its part.
func tooOld() *Failure {
	return &Failure{Kind: KindConfig, Message: "the provider is too old for this grant and was sent nothing; build it with a newer package plugins, or use a built-in one"}
}

func (g Grant) wire() *providerpb.Grant {
	if a := g.Assertion; a != nil {
		return &providerpb.Grant{Part: &providerpb.Grant_Assertion{Assertion: &providerpb.Assertion{
			Subject: a.Subject, Claims: a.Claims, Scopes: a.Scopes,
		}}}
	}
	if t := g.SubjectToken; t != nil {
		return &providerpb.Grant{Part: &providerpb.Grant_SubjectToken{SubjectToken: &providerpb.SubjectToken{Type: t.Type}}}
	}
	return &providerpb.Grant{}
}
