package devserver

import (
	"net/http"
	"strings"
)

// metadata is the discovery document (RFC 8414, 2). A server without an authorization endpoint has no response types,
// but must list them. Entra's metadata names such an endpoint, and Microsoft's libraries require it before they ask
// for any token, so it is named but not served.
type metadata struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint,omitempty"`
	TokenEndpoint         string   `json:"token_endpoint"`
	IntrospectionEndpoint string   `json:"introspection_endpoint"`
	ResponseTypes         []string `json:"response_types_supported"`
	GrantTypes            []string `json:"grant_types_supported"`
	AuthMethods           []string `json:"token_endpoint_auth_methods_supported"`
	SigningAlgorithms     []string `json:"token_endpoint_auth_signing_alg_values_supported"`
}

// routeDiscovery serves each issuer's metadata at the URL of OpenID Connect (after the issuer's path) and at that of
// RFC 8414 (before it).
func (s *Server) routeDiscovery(mux *http.ServeMux) {
	const oidc, oauth = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"
	mux.HandleFunc("GET "+oidc, s.serveMetadata(plainEndpoint))
	mux.HandleFunc("GET "+oauth, s.serveMetadata(plainEndpoint))
	mux.HandleFunc("GET /{tenant}"+oidc, s.serveMetadata(plainEndpoint))
	mux.HandleFunc("GET "+oauth+"/{tenant}", s.serveMetadata(plainEndpoint))
	mux.HandleFunc("GET /{tenant}/v2.0"+oidc, s.serveMetadata(entraEndpoint))
	mux.HandleFunc("GET "+oauth+"/{tenant}/v2.0", s.serveMetadata(entraEndpoint))
}

// grantTypes are the grants of an endpoint.
func (s *Server) grantTypes(at endpoint) []string {
	switch {
	case at.entra:
		return []string{grantClientCredentials}
	case at.manner != nil && at.manner.noGrant != nil:
		return []string{grantJWTBearer, grantTokenExchange}
	}
	return []string{grantClientCredentials, grantJWTBearer, grantTokenExchange}
}

func (s *Server) authMethods() []string {
	methods := []string{methodBasic, methodPost, methodJWT}
	if s.options.TLS {
		methods = append(methods, methodTLS)
	}
	return methods
}

func (s *Server) authorizationEndpoint(at endpoint) string {
	if !at.entra {
		return ""
	}
	return s.URL() + strings.TrimSuffix(at.path, "token") + "authorize"
}

func (s *Server) serveMetadata(at func(tenant string) endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		here := at(r.PathValue("tenant"))
		if !s.knowsTenant(here) {
			q := &tokenRequest{at: here, header: r.Header}
			q.refusalAnswer(unknownTenant(here)).write(w)
			return
		}
		writeJSON(w, http.StatusOK, metadata{
			Issuer:                s.URL() + here.issuerPath,
			AuthorizationEndpoint: s.authorizationEndpoint(here),
			TokenEndpoint:         s.URL() + here.path,
			IntrospectionEndpoint: s.URL() + "/introspect",
			ResponseTypes:         []string{},
			GrantTypes:            s.grantTypes(here),
			AuthMethods:           s.authMethods(),
			SigningAlgorithms:     []string{"PS256", "RS256", "ES256", "ES384", "EdDSA"},
		})
	}
}
