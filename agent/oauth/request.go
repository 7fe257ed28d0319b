package oauth

import (
	"cmp"
	"net/url"
	"strings"
)

// The grant types, as grant_type names them.
const (
	ClientCredentials = "client_credentials"                              // RFC 6749, 4.4
	JWTBearer         = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523, 2.1
	TokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693, 2.1
)

// Request is the content of a token request (such as RFC 6749, 4.4.2).
type Request struct {
	GrantType string // "" for [ClientCredentials]
	// SubjectTokenType and RequestedTokenType are those of RFC 8693, 2.1; "" leaves one out.
	SubjectTokenType, RequestedTokenType string
	Scopes                               []string
	Audience                             string
	Resources                            []string // RFC 8707, 2
	Claims                               string   // OpenID Connect Core, 5.5
	Params                               map[string]string
}

// Form returns the request's parameters, without those that authenticate the client or that the provider adds for the
// grant. Params cannot set parameters that credagent sets, even if it omits them.
func (r Request) Form() url.Values {
	form := url.Values{}
	for name, value := range r.Params {
		if !reserved(name) {
			form.Set(name, value)
		}
	}
	form.Set("grant_type", cmp.Or(r.GrantType, ClientCredentials))
	for name, value := range map[string]string{"subject_token_type": r.SubjectTokenType, "requested_token_type": r.RequestedTokenType} {
		if value != "" {
			form.Set(name, value)
		}
	}
	if len(r.Scopes) > 0 {
		form.Set("scope", strings.Join(r.Scopes, " "))
	}
	if r.Audience != "" {
		form.Set("audience", r.Audience)
	}
	for _, resource := range r.Resources {
		form.Add("resource", resource)
	}
	if r.Claims != "" {
		form.Set("claims", r.Claims)
	}
	return form
}

func reserved(parameter string) bool {
	switch parameter {
	case "grant_type", "scope", "audience", "resource", "claims",
		"client_id", "client_secret", "client_assertion", "client_assertion_type", "assertion",
		"subject_token", "subject_token_type", "requested_token_type":
		return true
	}
	return false
}
