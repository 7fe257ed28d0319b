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
	"time"
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
	audiences  []string           // the audiences of an assertion that is the grant, beside the server itself
	longest    time.Duration      // the longest lifetime of such an assertion; 0 is the usual hour
	anonymous  bool               // such an assertion needs no sub
	// secretBeside: a client also authenticates with another grant than client_credentials.
	secretBeside bool
	claims       bool           // the scope is a claim of such an assertion, and the form's does not count
	fields       map[string]any // extra fields of an answer with a token; nil removes a field
}

// The keys of refusals that stand for one of this server's own.
const (
	wrongSecret   = "wrong_secret"
	wantsAudience = "wants_audience"
	wantsResource = "wants_resource"

	wrongSignature = "wrong_signature" // of an assertion that is the grant, as are the next
	wrongTime      = "wrong_time"
	wrongAudience  = "wrong_audience"
	wrongSubject   = "wrong_subject"
)

const keycloakRefusal = "Invalid client or Invalid client credentials"

// manners come from each server's documentation and its users' reports; docs/servers names them.
func manners() []Manner {
	all := []Manner{
		{Name: "entra", Help: "Microsoft Entra ID, for entra.authority with --tls",
			issuer: "/{tenant}/v2.0", token: "/{tenant}/oauth2/v2.0/token"},
		{Name: "keycloak", Help: "answers 401 unauthorized_client to a wrong secret; takes RS256 from a certificate without a key_id",
			secretBeside: true, issuer: "/realms/{tenant}", token: "/realms/{tenant}/protocol/openid-connect/token",
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
	}
	return slices.Concat(all, moreManners(), assertionManners())
}

// assertionManners are those of servers that take assertions as grants, and little else.
func assertionManners() []Manner {
	return []Manner{
		{Name: "docusign", Help: "takes RS256 assertions for its host as grants, with the scope in them",
			issuer: "", token: "/oauth/token",
			noGrant:    &refusal{http.StatusBadRequest, "unsupported_grant_type", 0, ""},
			algorithms: []string{"RS256"}, audiences: []string{"account.docusign.com", "account-d.docusign.com"}, claims: true,
			refusals: map[string]refusal{
				"invalid_client": {http.StatusBadRequest, "invalid_grant", 0, "issuer_not_found"},
				wrongSignature:   {http.StatusBadRequest, "invalid_grant", 0, "no_valid_keys_or_signatures"},
				wrongAudience:    {http.StatusBadRequest, "invalid_grant", 0, "issuer_not_found"},
				wrongSubject:     {http.StatusBadRequest, "consent_required", 0, ""},
			}},
		{Name: "box", Help: "takes RS256 assertions as grants, a minute long at most, beside a client secret",
			issuer: "", token: "/oauth2/token",
			algorithms: []string{"RS256"}, longest: time.Minute, secretBeside: true,
			refusals: map[string]refusal{
				wrongSecret: {http.StatusBadRequest, "invalid_client", 0, "The client credentials are invalid"},
				wrongTime:   {http.StatusBadRequest, "invalid_grant", 0, "Please check the 'exp' claim."},
			}},
	}
}

// moreManners are those of servers with fewer grants or rules of their own for them.
func moreManners() []Manner {
	return []Manner{
		{Name: "cognito", Help: "answers 400 in the metadata's place, and errors without a description",
			issuer: "", token: "/oauth2/token", noMetadata: true, bare: true,
			refusals: map[string]refusal{
				wrongSecret:      {http.StatusBadRequest, "invalid_client", 0, ""},
				"invalid_client": {http.StatusBadRequest, "invalid_client", 0, ""},
			}},
		{Name: "salesforce", Help: "sends no expires_in; takes RS256 assertions for login.salesforce.com as grants, three minutes long at most",
			issuer: "", token: "/services/oauth2/token",
			algorithms: []string{"RS256"}, audiences: []string{"https://login.salesforce.com", "https://test.salesforce.com"}, longest: 3 * time.Minute,
			fields: map[string]any{"expires_in": nil, "instance_url": "https://example.my.salesforce.com"},
			refusals: map[string]refusal{
				wrongSecret:      {http.StatusBadRequest, "invalid_client", 0, "invalid client credentials"},
				"invalid_client": {http.StatusBadRequest, "invalid_client_id", 0, "client identifier invalid"},
				wrongSignature:   {http.StatusBadRequest, "invalid_grant", 0, "invalid assertion"},
				wrongTime:        {http.StatusBadRequest, "invalid_grant", 0, "expired authorization code"},
				wrongAudience:    {http.StatusBadRequest, "invalid_grant", 0, "audience is invalid"},
				wrongSubject:     {http.StatusBadRequest, "invalid_grant", 0, "user hasn't approved this consumer"},
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
		{Name: "google", Help: "knows no client_credentials; takes RS256 assertions of service accounts as grants, with the scope in them",
			issuer: "", token: "/token",
			noGrant:    &refusal{http.StatusBadRequest, "unsupported_grant_type", 0, "Invalid grant_type: client_credentials"},
			algorithms: []string{"RS256"}, anonymous: true, claims: true,
			refusals: map[string]refusal{
				"invalid_client": {http.StatusBadRequest, "invalid_grant", 0, "Invalid grant: account not found"},
				wrongSignature:   {http.StatusBadRequest, "invalid_grant", 0, "Invalid JWT Signature."},
				wrongTime:        {http.StatusBadRequest, "invalid_grant", 0, "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."},
				wrongAudience:    {http.StatusBadRequest, "invalid_grant", 0, "Invalid JWT: Failed audience check."},
				wrongSubject:     {http.StatusUnauthorized, "unauthorized_client", 0, "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the scopes requested."},
				"invalid_scope":  {http.StatusBadRequest, "invalid_scope", 0, "Invalid OAuth scope or ID token audience provided."},
			}},
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
	case m.noGrant != nil && form.Get("grant_type") == grantClientCredentials:
		return m.noGrant
	case m.Audience && !form.Has("audience"):
		return m.refusal(wantsAudience)
	case m.Resource && !form.Has("resource"):
		return m.refusal(wantsResource)
	case m.claims && form.Get("grant_type") == grantTokenExchange && !form.Has("scope"):
		return invalidScope("the exchange has no scope")
	}
	return nil
}

// readsClaims reports whether the scope stands in an assertion that is the grant.
func (m *Manner) readsClaims() bool { return m != nil && m.claims }

// longestGrant is the life that an assertion which is the grant may have.
func (m *Manner) longestGrant() time.Duration {
	if m == nil || m.longest == 0 {
		return maxAssertionLife
	}
	return m.longest
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

// kind distinguishes a wrong secret from the other reasons for invalid_client, and the problems of an assertion that is
// the grant.
func (r *refusal) kind() string {
	switch {
	case r.code == "invalid_client" && r.aadsts == wrongSecretAADSTS:
		return wrongSecret
	case r.code != "invalid_grant":
		return ""
	}
	switch r.aadsts {
	case malformedAADSTS, wrongSignatureAADSTS:
		return wrongSignature
	case wrongTimeAADSTS:
		return wrongTime
	case wrongAudienceAADSTS:
		return wrongAudience
	case wrongSubjectAADSTS:
		return wrongSubject
	}
	return ""
}

// Entra's numbers, which tell refusals of one code apart.
const (
	wrongSecretAADSTS    = 7000215
	malformedAADSTS      = 50027
	wrongSignatureAADSTS = 700027
	wrongTimeAADSTS      = 700024
	wrongAudienceAADSTS  = 700023
	wrongSubjectAADSTS   = 50034
)

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
