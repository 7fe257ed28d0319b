package oauth

import (
	"net/url"
	"strings"
)

// Request is the content of a token request (RFC 6749, 4.4.2).
type Request struct {
	Scopes    []string
	Audience  string
	Resources []string // RFC 8707, 2
	Claims    string   // OpenID Connect Core, 5.5
	Params    map[string]string
}

// Form returns the request's parameters, without those that authenticate the client. Params cannot set parameters
// that credagent sets, even if it omits them.
func (r Request) Form() url.Values {
	form := url.Values{}
	for name, value := range r.Params {
		if !reserved(name) {
			form.Set(name, value)
		}
	}
	form.Set("grant_type", "client_credentials")
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
		"client_id", "client_secret", "client_assertion", "client_assertion_type":
		return true
	}
	return false
}
