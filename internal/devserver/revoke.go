package devserver

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// revocation is what the resource requires of tokens: that they were requested with a claim of at least this value.
// It simulates continuous access evaluation.
type revocation struct {
	mu        sync.Mutex
	notBefore int64 // of the nbf claim; 0 while nothing was revoked
}

// Revoke makes the resource reject every existing token, with a claims challenge like those of Microsoft Entra ID's
// resources. The resource then accepts only tokens that were requested with the claims of the challenge, which Revoke
// returns. The rest of the server is not affected.
func (s *Server) Revoke() (claims string) { return s.revoked.revoke(time.Now()) }

// revoke raises the required value each time, even within a second.
func (r *revocation) revoke(now time.Time) (claims string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notBefore = max(now.Unix(), r.notBefore+1)
	return claimsFor(r.notBefore)
}

// wanted returns the claims that a token lacks; "" when it lacks none.
func (r *revocation) wanted(g grant) (claims string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g.notBefore >= r.notBefore {
		return ""
	}
	return claimsFor(r.notBefore)
}

func claimsFor(notBefore int64) string {
	return fmt.Sprintf(`{"access_token":{"nbf":{"essential":true,"value":"%d"}}}`, notBefore)
}

// notBefore reads the claim from a token request's claims; 0 if they do not ask for it.
func notBefore(claims string) int64 {
	var asked struct {
		AccessToken struct {
			NotBefore struct {
				Value string `json:"value"`
			} `json:"nbf"`
		} `json:"access_token"`
	}
	if json.Unmarshal([]byte(claims), &asked) != nil {
		return 0
	}
	value, _ := strconv.ParseInt(asked.AccessToken.NotBefore.Value, 10, 64)
	return value
}

// challenge returns the WWW-Authenticate value that asks for claims.
func (s *Server) challenge(claims string) string {
	return fmt.Sprintf(`Bearer realm="", authorization_uri="%s/authorize", error="insufficient_claims", claims="%s"`,
		s.URL(), base64.StdEncoding.EncodeToString([]byte(claims)))
}

// serveRevoke revokes, and answers with what the resource asks for from now on.
func (s *Server) serveRevoke(w http.ResponseWriter, _ *http.Request) {
	claims := s.Revoke()
	writeJSON(w, http.StatusOK, map[string]any{"claims": json.RawMessage(claims), "www_authenticate": s.challenge(claims)})
}
