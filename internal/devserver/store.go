package devserver

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"sync"
	"time"
)

// grant is what an access token stands for.
type grant struct {
	client string
	scope  string
	issued time.Time
	expiry time.Time

	notBefore int64 // the nbf claim that it was requested with, if any

	// agent is the agent identity that authenticates with the token (Entra's fmi_path); "" for none.
	agent string
}

// tokenStore remembers the valid tokens, only by their SHA-256.
type tokenStore struct {
	mu     sync.Mutex
	grants map[[sha256.Size]byte]grant
	count  int
}

// newToken creates an access token for a grant.
func (s *Server) newToken(g grant) string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	token := base64.RawURLEncoding.EncodeToString(random[:])
	if s.options.JWT || g.agent != "" {
		return inJWT(s.URL(), token, g)
	}
	return token
}

func (t *tokenStore) add(token string, g grant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.grants, func(_ [sha256.Size]byte, old grant) bool { return !g.issued.Before(old.expiry) })
	if t.grants == nil {
		t.grants = map[[sha256.Size]byte]grant{}
	}
	t.grants[sha256.Sum256([]byte(token))] = g
	t.count++
}

// find returns what a token stands for, if it is valid now.
func (t *tokenStore) find(token string) (grant, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, ok := t.grants[sha256.Sum256([]byte(token))]
	return g, ok && time.Now().Before(g.expiry)
}

func (t *tokenStore) issued() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// Valid reports whether the server issued the access token and it has not expired.
func (s *Server) Valid(accessToken string) bool {
	_, ok := s.tokens.find(accessToken)
	return ok
}
