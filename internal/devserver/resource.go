package devserver

import (
	"encoding/json"
	"net/http"
	"strings"
)

// serveIntrospection answers RFC 7662 for anyone who can reach it: it reveals only what the holder of the token
// already has.
func (s *Server) serveIntrospection(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	token := r.PostFormValue("token")
	if token == "" {
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": "the parameter 'token' is missing"})
		return
	}
	g, ok := s.tokens.find(token)
	if !ok {
		writeJSON(w, http.StatusOK, map[string]any{"active": false})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"active":     true,
		"client_id":  g.client,
		"scope":      g.scope,
		"token_type": "Bearer",
		"iat":        g.issued.Unix(),
		"exp":        g.expiry.Unix(),
	})
}

// serveResource is a protected resource (RFC 6750) that evaluates access continuously: see
// [Server.Revoke].
func (s *Server) serveResource(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		// A request without a token gets no error code (RFC 6750, 3.1).
		w.Header().Set("WWW-Authenticate", `Bearer realm="credagent devserver"`)
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "no access token"})
		return
	}
	g, ok := s.tokens.find(token)
	if !ok {
		w.Header().Set("WWW-Authenticate",
			`Bearer realm="credagent devserver", error="invalid_token", error_description="the access token is unknown or has expired"`)
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
		return
	}
	if claims := s.revoked.wanted(g); claims != "" {
		w.Header().Set("WWW-Authenticate", s.challenge(claims))
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "insufficient_claims"})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"client_id": g.client, "scope": g.scope})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}
