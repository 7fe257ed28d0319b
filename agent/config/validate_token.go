package config

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"
)

// reserved are the form parameters that credagent sets itself or through another key.
var reserved = []string{
	"assertion", "audience", "claims", "client_assertion", "client_assertion_type", "client_id", "client_secret",
	"grant_type", "requested_token_type", "resource", "scope", "subject_token", "subject_token_type",
}

func (v *validator) tokens() []Token {
	if len(v.raw.Tokens) == 0 {
		v.missing("", "tokens")
		return nil
	}
	clients := sortedKeys(v.raw.Clients)
	var tokens []Token
	for _, name := range v.tokenNames {
		path, raw := join("tokens", name), v.raw.Tokens[name]
		v.checkName(path, name)
		if !v.mapped(path) {
			continue
		}
		if _, ok := v.required(path, "client", raw.Client); ok && v.known(join(path, "client"), "client", raw.Client, clients) {
			v.used[raw.Client.value] = true
		}
		tokens = append(tokens, v.token(path, name, raw))
	}
	return tokens
}

func (v *validator) token(path, name string, raw rawToken) Token {
	audience, _ := v.optional(join(path, "audience"), raw.Audience)
	return Token{
		Name:               name,
		Client:             raw.Client.value,
		Grant:              v.grant(path, raw),
		Subject:            v.assertionSubject(path, raw),
		AssertionClaims:    v.assertionClaims(path, raw),
		SubjectTokenType:   v.tokenType(path, "subject_token_type", raw, raw.SubjectTokenType, "jwt"),
		RequestedTokenType: v.tokenType(path, "requested_token_type", raw, raw.RequestedTokenType, ""),
		Scopes:             v.scopes(path, raw),
		Audience:           audience,
		Resources:          v.resources(join(path, "resources"), raw.Resources),
		Params:             v.params(join(path, "params"), raw.Params),
		Claims:             v.claims(join(path, "claims"), raw.Claims),
		CAE:                raw.CAE,
		RefreshAt:          v.refreshAt(join(path, "refresh_at"), raw.RefreshAt),
		DefaultLifetime:    v.duration(join(path, "default_lifetime"), raw.DefaultLifetime, limits{10 * time.Second, 8760 * time.Hour, defaultLifetime}),
		Allow:              v.principals(join(path, "allow"), raw.Allow),
	}
}

func (v *validator) scopes(path string, raw rawToken) []string {
	var scopes []string
	for i, t := range raw.Scopes {
		at := index(join(path, "scopes"), i)
		switch {
		case !t.ok():
			continue
		case !isScope(t.value):
			v.hinted(at, "each scope is an entry of its own", "%v is not a scope", t)
		case slices.Contains(scopes, t.value):
			v.problem(at, "%v is there twice", t)
		}
		scopes = append(scopes, t.value)
	}
	if v.raw.Clients[raw.Client.value].Entra != nil && !v.silenced[join(path, "scopes")] {
		v.entraScopes(join(path, "scopes"), raw.Scopes)
	}
	return scopes
}

// entraScopes checks Entra ID's rule for client credentials: all permissions of one resource.
func (v *validator) entraScopes(path string, scopes []text) {
	const hint = "such as https://graph.microsoft.com/.default"
	if len(scopes) != 1 {
		v.hinted(path, hint+"; another resource is another token", "Entra ID wants exactly one scope, found %d", len(scopes))
		return
	}
	if t := scopes[0]; t.ok() && !strings.HasSuffix(t.value, "/.default") {
		v.hinted(index(path, 0), hint, "%v does not end in /.default, as Entra ID wants it", t)
	}
}

// isScope checks a scope-token of RFC 6749, section 3.3.
func isScope(s string) bool {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
	return s != "" && !strings.ContainsFunc(s, odd)
}

// resources checks RFC 8707, section 2: absolute URIs without a fragment.
func (v *validator) resources(path string, raw []text) []string {
	var resources []string
	for i, t := range raw {
		at := index(path, i)
		if !t.ok() {
			continue
		}
		u, err := url.Parse(t.value)
		switch {
		case err != nil || !u.IsAbs() || u.Host == "" && u.Opaque == "" && u.Path == "":
			v.problem(at, "%v is not an absolute URI", t)
		case strings.Contains(t.value, "#"):
			v.problem(at, "%v has a fragment", t)
		}
		resources = append(resources, t.value)
	}
	return resources
}

func (v *validator) params(path string, raw map[string]text) map[string]string {
	var params map[string]string
	for _, key := range sortedKeys(raw) {
		at, t := join(path, key), raw[key]
		switch {
		case key == "":
			v.problem(at, "a parameter without a name")
		case slices.Contains(reserved, key):
			v.problem(at, "credagent sets the parameter %s itself", key)
		case isSecretKey(key):
			v.hinted(at, secretHint, "a secret in parameter %s", key)
		case !t.ok():
			continue
		}
		if params == nil {
			params = map[string]string{}
		}
		v.hide(t)
		params[key] = t.value
	}
	return params
}

func (v *validator) claims(path string, t text) string {
	if !t.ok() || t.value == "" {
		return ""
	}
	var claims map[string]json.RawMessage
	if err := json.Unmarshal([]byte(t.value), &claims); err != nil || claims == nil {
		v.hinted(path, `such as '{"access_token": {"acrs": {"essential": true}}}'`, "not a JSON object")
	}
	v.hide(t)
	return t.value
}

// tokenName returns the name of a token that a key of the mapping at path refers to.
func (v *validator) tokenName(path, key string, t text) string {
	name, ok := v.required(path, key, t)
	if !ok || !v.known(join(path, key), "token", t, v.tokenNames) {
		return ""
	}
	return name
}
