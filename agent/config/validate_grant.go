package config

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// tokenTypes are the types of tokens that have a name of their own (RFC 8693, 3).
var tokenTypes = []string{"access_token", "id_token", "jwt", "refresh_token", "saml1", "saml2"}

const tokenTypePrefix = "urn:ietf:params:oauth:token-type:"

var grants = map[string]Grant{
	string(GrantClientCredentials): GrantClientCredentials,
	string(GrantJWTBearer):         GrantJWTBearer,
	string(GrantTokenExchange):     GrantTokenExchange,
}

// ownClaims are the claims of an assertion that credagent sets itself, and where each comes from.
var ownClaims = map[string]string{
	"iss": "it is the client_id, or that of the key's file",
	"sub": "it is the token's key subject",
	"aud": "it is assertion_audience in the credential's config",
	"exp": "it follows from assertion_lifetime in the credential's config",
	"iat": "it is when the assertion is signed",
	"nbf": "it is when the assertion is signed",
	"jti": "it is new for each request",
}

// grant returns the grant that a token is asked for by, and says where it does not suit the client.
func (v *validator) grant(path string, raw rawToken) Grant {
	at := join(path, "grant")
	g := oneOf(v, at, raw.Grant, choice[Grant]{grants, string(GrantClientCredentials)})
	client := v.raw.Clients[raw.Client.value]
	switch {
	case v.silenced[at]:
	case g != GrantClientCredentials && client.Entra != nil:
		v.hinted(at, "leave grant out", "Entra ID gives a client tokens by client_credentials alone")
	case g == GrantClientCredentials && client.Credential.unauthenticated():
		v.hinted(at, "grant: jwt_bearer or token_exchange, or another auth_method", "the client's auth_method is none, with which a server gives no token for client_credentials")
	}
	return g
}

// unauthenticated reports whether a credential is configured not to authenticate the client.
func (raw *rawCredential) unauthenticated() bool {
	return raw != nil && raw.Config.values["auth_method"] == "none"
}

// only reports a key that is for another grant than the token's.
func (v *validator) only(path, key string, raw rawToken, g Grant) bool {
	if raw.Grant.invalid || v.silenced[join(path, "grant")] || raw.Grant.value == string(g) {
		return true
	}
	v.hinted(join(path, key), "add grant: "+string(g)+", or leave "+key+" out", "only a token of grant %s has this key", g)
	return false
}

// assertionSubject returns whom the assertion is for; "" for none.
func (v *validator) assertionSubject(path string, raw rawToken) string {
	subject, given := v.optional(join(path, "subject"), raw.Subject)
	if given {
		v.only(path, "subject", raw, GrantJWTBearer)
	}
	return subject
}

// assertionClaims returns the claims as JSON; nil for none.
func (v *validator) assertionClaims(path string, raw rawToken) json.RawMessage {
	at := join(path, "assertion_claims")
	if len(raw.AssertionClaims.values) == 0 || !v.only(path, "assertion_claims", raw, GrantJWTBearer) {
		return nil
	}
	for _, name := range sortedKeys(raw.AssertionClaims.values) {
		if where, own := ownClaims[name]; own {
			v.hinted(join(at, name), where, "credagent sets the claim %s itself", name)
		}
	}
	return slices.Clone(raw.AssertionClaims.json())
}

// tokenType returns a type of token as a URI. Those of RFC 8693 go by their last word.
func (v *validator) tokenType(path, key string, raw rawToken, t text, otherwise string) string {
	value, given := v.optional(join(path, key), t)
	if given && value != "" && !v.only(path, key, raw, GrantTokenExchange) {
		return ""
	}
	if value == "" && raw.Grant.value == string(GrantTokenExchange) {
		value = otherwise
	}
	u, err := url.Parse(value)
	switch {
	case value == "" || err == nil && u.IsAbs():
		return value
	case slices.Contains(tokenTypes, value):
		return tokenTypePrefix + value
	}
	v.hinted(join(path, key), didYouMean(value, tokenTypes), "%v is neither one of %s nor a URI", t, strings.Join(tokenTypes, ", "))
	return ""
}
