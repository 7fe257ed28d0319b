package certauth

import (
	"cmp"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/credagent/credagent/plugins"
)

// CheckAssertion implements [plugins.AssertionChecker].
func (c Config) CheckAssertion(a plugins.Assertion) error {
	if a.Subject == "" && !c.SubjectOptional {
		return &plugins.ConfigError{Key: "subject", Message: "is needed with grant jwt_bearer: whom the token is for, such as a user's name (RFC 7523, 3)"}
	}
	if _, claimed := a.Claims["scope"]; claimed && c.ScopeIn == ScopeInAssertion && len(a.Scopes) > 0 {
		return &plugins.ConfigError{Key: "assertion_claims.scope", Message: "is what scopes are sent as here; leave one of the two out"}
	}
	return nil
}

// signGrant signs the assertion that is the grant of a request (RFC 7523, 2.1 and 3). The scopes go where
// the server reads them.
func (c Config) signGrant(r *plugins.Request, a plugins.Assertion, p Pair, alg jose.SignatureAlgorithm) (string, error) {
	claims := map[string]any{}
	for name, value := range a.Claims {
		claims[name] = value
	}
	claims["iss"] = cmp.Or(c.Issuer, r.ClientID)
	delete(claims, "sub")
	if a.Subject != "" {
		claims["sub"] = a.Subject
	}
	if c.ScopeIn == ScopeInAssertion && len(a.Scopes) > 0 {
		claims["scope"] = strings.Join(a.Scopes, " ")
		r.Form.Del("scope")
	}
	return c.sign(r, p, alg, claims)
}
