package devserver

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Manner describes how a known authorization server differs from the plain one: its endpoints, its requirements, and
// its refusals.
type Manner struct {
	Name string
	Help string

	Audience bool // a request needs audience
	Resource bool // a request needs resource

	issuer     string // the issuer's path; {tenant} stands for one
	token      string // the token endpoint's path
	noMetadata bool   // the metadata URL answers 400
	algorithms []string
	refusals   map[string]refusal // its answers, by the code of the plain refusal
	bare       bool               // its errors have no description
	noGrant    *refusal           // the answer to client_credentials
	fields     map[string]any     // extra fields of an answer with a token; nil removes a field
}

// The keys of refusals that stand for one of this server's own.
const (
	wrongSecret   = "wrong_secret"
	wantsAudience = "wants_audience"
	wantsResource = "wants_resource"
)

const keycloakRefusal = "Invalid client or Invalid client credentials"

// manners come from each server's documentation and its users' reports; docs/servers names them.
func manners() []Manner {
	return []Manner{
		{Name: "entra", Help: "Microsoft Entra ID, for entra.authority with --tls",
			issuer: "/{tenant}/v2.0", token: "/{tenant}/oauth2/v2.0/token"},
		{Name: "keycloak", Help: "answers 401 unauthorized_client to a wrong secret; takes RS256 from a certificate without a key_id",
			issuer: "/realms/{tenant}", token: "/realms/{tenant}/protocol/openid-connect/token",
			algorithms: []string{"RS256"},
			refusals: map[string]refusal{
				wrongSecret:      {http.StatusUnauthorized, "unauthorized_client", 0, keycloakRefusal},
				"invalid_client": {http.StatusUnauthorized, "invalid_client", 0, keycloakRefusal},
			}},
		{Name: "okta", Help: "the custom authorization server default; takes RS and ES signatures",
			issuer: "/oauth2/{tenant}", token: "/oauth2/{tenant}/v1/token",
			algorithms: []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"},
			refusals: map[string]refusal{
				wrongSecret:     {http.StatusUnauthorized, "invalid_client", 0, "The client secret supplied for a confidential client is invalid."},
				"invalid_scope": {http.StatusBadRequest, "invalid_scope", 0, "One or more scopes are not configured for the authorization server resource."},
			}},
		{Name: "auth0", Help: "wants audience; takes RS256, RS384 and PS256",
			issuer: "/", token: "/oauth/token", Audience: true,
			algorithms: []string{"RS256", "RS384", "PS256"},
			refusals: map[string]refusal{
				wrongSecret:      {http.StatusUnauthorized, "access_denied", 0, "Unauthorized"},
				"invalid_client": {http.StatusUnauthorized, "invalid_client", 0, "Client authentication failed"},
				wantsAudience:    {http.StatusForbidden, "access_denied", 0, "Non-global clients are not allowed access to APIv1"},
			}},
		{Name: "cognito", Help: "answers 400 in the metadata's place, and errors without a description",
			issuer: "", token: "/oauth2/token", noMetadata: true, bare: true,
			refusals: map[string]refusal{
				wrongSecret:      {http.StatusBadRequest, "invalid_client", 0, ""},
				"invalid_client": {http.StatusBadRequest, "invalid_client", 0, ""},
			}},
		{Name: "salesforce", Help: "sends no expires_in",
			issuer: "", token: "/services/oauth2/token",
			fields: map[string]any{"expires_in": nil, "instance_url": "https://example.my.salesforce.com"},
			refusals: map[string]refusal{
				wrongSecret:      {http.StatusBadRequest, "invalid_client", 0, "invalid client credentials"},
				"invalid_client": {http.StatusBadRequest, "invalid_client_id", 0, "client identifier invalid"},
			}},
		{Name: "ping", Help: "PingOne; takes RS signatures",
			issuer: "/{tenant}/as", token: "/{tenant}/as/token",
			algorithms: []string{"RS256", "RS384", "RS512"},
			refusals: map[string]refusal{
				wrongSecret: {http.StatusUnauthorized, "invalid_client", 0, "Request denied: Unsupported authentication method"},
			}},
		{Name: "adfs", Help: "wants resource; takes RS256",
			issuer: "/adfs", token: "/adfs/oauth2/token", Resource: true,
			algorithms: []string{"RS256"},
			refusals: map[string]refusal{
				wrongSecret:      {http.StatusBadRequest, "invalid_client", 0, msis9622},
				"invalid_client": {http.StatusBadRequest, "invalid_client", 0, msis9622},
				wantsResource:    {http.StatusBadRequest, "access_denied", 0, "MSIS9605: The client is not allowed to access the requested resource."},
			}},
		{Name: "google", Help: "knows no client_credentials",
			issuer: "", token: "/token",
			noGrant: &refusal{http.StatusBadRequest, "unsupported_grant_type", 0, "Invalid grant_type: client_credentials"}},
	}
}

const msis9622 = "MSIS9622: Client authentication failed. Please verify the credential provided for client authentication is valid."

// Manners explains every manner that [ParseManner] knows.
func Manners() []Manner { return manners() }

// ParseManner finds a manner by its name; "" is the plain server's.
func ParseManner(name string) (Manner, error) {
	if name == "" {
		return Manner{}, nil
	}
	var names []string
	for _, m := range manners() {
		if m.Name == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return Manner{}, fmt.Errorf("there is no manner %q, only %s", name, strings.Join(names, ", "))
}

// endpoint returns the manner's token endpoint for a tenant, if its paths have one.
func (m *Manner) endpoint(tenant string) endpoint {
	segment := url.PathEscape(tenant)
	return endpoint{
		path:       strings.Replace(m.token, "{tenant}", segment, 1),
		issuerPath: strings.Replace(m.issuer, "{tenant}", segment, 1),
		tenant:     tenant, entra: m.Name == "entra", manner: m,
	}
}

// routeManner serves only what the server of this manner has.
func (s *Server) routeManner(mux *http.ServeMux, m *Manner) {
	mux.HandleFunc(m.token, s.serveToken(m.endpoint))
	const oidc = "/.well-known/openid-configuration"
	place := "GET " + strings.TrimSuffix(m.issuer, "/") + oidc
	if m.noMetadata {
		mux.HandleFunc(place, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Bad Request", http.StatusBadRequest) })
		return
	}
	mux.HandleFunc(place, s.serveMetadata(m.endpoint))
}

// sample returns the token endpoint that is announced to clients.
func (m *Manner) sample() endpoint { return m.endpoint("demo") }

// missing returns the refusal for a parameter that the manner requires and the request lacks.
func (m *Manner) missing(form url.Values) *refusal {
	switch {
	case m == nil:
		return nil
	case m.noGrant != nil:
		return m.noGrant
	case m.Audience && !form.Has("audience"):
		return m.refusal(wantsAudience)
	case m.Resource && !form.Has("resource"):
		return m.refusal(wantsResource)
	}
	return nil
}

func (m *Manner) refusal(of string) *refusal {
	r := m.refusals[of]
	return &r
}

// accepts reports whether an assertion may use this algorithm.
func (m *Manner) accepts(algorithm string) bool {
	return m == nil || m.algorithms == nil || slices.Contains(m.algorithms, algorithm)
}

// reword returns a refusal in the wording of this manner's server.
func (m *Manner) reword(r *refusal) *refusal {
	if m == nil {
		return r
	}
	if own, ok := m.refusals[cmp.Or(r.kind(), r.code)]; ok {
		return &own
	}
	return r
}

// kind distinguishes a wrong secret from the other reasons for invalid_client.
func (r *refusal) kind() string {
	if r.code == "invalid_client" && r.aadsts == wrongSecretAADSTS {
		return wrongSecret
	}
	return ""
}

const wrongSecretAADSTS = 7000215

// dress adds the fields that this manner's server sends with a token.
func (m *Manner) dress(fields map[string]any) {
	if m == nil {
		return
	}
	maps.Copy(fields, m.fields)
	maps.DeleteFunc(fields, func(_ string, value any) bool { return value == nil })
	if m.Name == "salesforce" {
		fields["signature"] = rand.Text()
	}
}
