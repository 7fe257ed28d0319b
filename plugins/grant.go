package plugins

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/credagent/credagent/plugins/providerpb"
)

// maxScopes bounds the scopes of an assertion.
const maxScopes = 1000

// Grant implements the service.
func (s *server) Grant(ctx context.Context, in *providerpb.GrantRequest) (*providerpb.ExchangeReply, error) {
	if in.GetExchange() == nil || in.GetGrant().GetPart() == nil {
		return failed(providerpb.Failure_KIND_CONFIG, "the agent asks for a grant that this provider does not know; build it with a newer package plugins"), nil
	}
	return s.exchange(ctx, in.GetExchange(), in.GetGrant())
}

// CheckGrant implements the service.
func (s *server) CheckGrant(_ context.Context, in *providerpb.CheckGrantRequest) (*providerpb.CheckGrantReply, error) {
	source, _, err := s.open(in.GetConfig())
	if err != nil {
		return &providerpb.CheckGrantReply{}, nil // Check reports it
	}
	reply := &providerpb.CheckGrantReply{}
	if err := checkGrant(source, in.GetGrant()); err != nil {
		for _, problem := range problems(err) {
			reply.Problems = append(reply.Problems, &providerpb.Problem{Key: plain(problem.Key), Message: plain(problem.Message)})
		}
	}
	return reply, nil
}

// checkGrant runs a provider's code, as open does.
func checkGrant(source Source, grant *providerpb.Grant) (err error) {
	defer recovered(&err)
	switch part := grant.GetPart().(type) {
	case *providerpb.Grant_Assertion:
		checker, signs := source.(AssertionChecker)
		if !signs {
			return errCannotSign()
		}
		assertion, err := readAssertion(part.Assertion)
		if err != nil {
			return err
		}
		return checker.CheckAssertion(assertion)
	case *providerpb.Grant_SubjectToken:
		checker, exchanges := source.(SubjectTokenChecker)
		if !exchanges {
			return errCannotExchange()
		}
		return checker.CheckSubjectToken(part.SubjectToken.GetType())
	default:
		return &ConfigError{"grant", "is not known to this provider; build it with a newer package plugins"}
	}
}

func errCannotSign() error {
	return &ConfigError{"grant", "jwt_bearer needs a credential that signs assertions, which this provider's does not; certcred and pkcs11cred do"}
}

func errCannotExchange() error {
	return &ConfigError{"grant", "token_exchange needs a credential that has a token to exchange, which this provider's has not; certcred, jwtcred and secretcred can have one"}
}

// addGrant adds to a request what the provider has to add of its grant.
func addGrant(ctx context.Context, credential Credential, r *Request, grant *providerpb.Grant) (err error) {
	defer recovered(&err)
	switch part := grant.GetPart().(type) {
	case *providerpb.Grant_Assertion:
		return addAssertion(credential, r, part.Assertion)
	case *providerpb.Grant_SubjectToken:
		return addSubjectToken(ctx, credential, r, part.SubjectToken.GetType())
	}
	return nil
}

func addSubjectToken(ctx context.Context, credential Credential, r *Request, tokenType string) error {
	if credential.SubjectToken == nil {
		return errCannotExchange()
	}
	token, err := credential.SubjectToken(ctx, tokenType)
	if err != nil {
		return err
	}
	r.Form.Set("subject_token", token)
	return nil
}

func addAssertion(credential Credential, r *Request, in *providerpb.Assertion) error {
	if credential.Sign == nil {
		return errCannotSign()
	}
	assertion, err := readAssertion(in)
	if err != nil {
		return err
	}
	signed, err := credential.Sign(r, assertion)
	if err != nil {
		return err
	}
	r.Form.Set("assertion", signed)
	return nil
}

func readAssertion(in *providerpb.Assertion) (Assertion, error) {
	a := Assertion{Subject: in.GetSubject(), Scopes: in.GetScopes()}
	if len(in.GetClaims()) > 0 && json.Unmarshal(in.GetClaims(), &a.Claims) != nil || len(a.Scopes) > maxScopes {
		return Assertion{}, errors.New("the agent asks for an assertion whose claims are not a JSON object")
	}
	return a, nil
}
