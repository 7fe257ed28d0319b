package devserver

import (
	"crypto"
	"crypto/x509"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/credagent/credagent/internal/secret"
)

// Client is a registered client: the credentials and scopes that it may use. Each of
// its credentials is good until [Server.SetClient] replaces it.
type Client struct {
	ID               string
	Secret           secret.Value                // for client_secret_basic and client_secret_post
	Certificates     []*x509.Certificate         // for private_key_jwt and, with TLS, self_signed_tls_client_auth
	PublicKeys       map[string]crypto.PublicKey // for private_key_jwt: kid → key
	AssertionIssuers []AssertionIssuer           // for assertions that a third party has signed
	Scopes           []string                    // the scopes it may have; nil is every one

	// Subjects are those for whom its assertions may ask with grant jwt_bearer; nil is every one.
	Subjects []string
	// Confidential says that it has to authenticate with the grants jwt_bearer and token_exchange, too.
	Confidential bool
}

// AssertionIssuer is a party whose assertions authenticate a client (RFC 7521, 4.2), or are exchanged by it
// (RFC 8693): a Kubernetes cluster, a SPIFFE trust domain. All fields must match.
type AssertionIssuer struct {
	Issuer   string
	Subject  string
	Audience string
	Key      crypto.PublicKey
}

// SetClient registers a client, or replaces the one of the same ID.
func (s *Server) SetClient(client Client) { s.clients.set(client) }

// RemoveClient removes a client. The tokens it has stay valid.
func (s *Server) RemoveClient(id string) { s.clients.remove(id) }

// registry is the set of registered clients.
type registry struct {
	mu   sync.Mutex
	byID map[string]Client
}

func (r *registry) set(client Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = map[string]Client{}
	}
	r.byID[client.ID] = client
}

func (r *registry) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
}

func (r *registry) get(id string) (Client, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	client, ok := r.byID[id]
	return client, ok
}

func (r *registry) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := slices.AppendSeq([]string{}, maps.Keys(r.byID))
	slices.Sort(ids)
	return ids
}

// replayMemory remembers assertions until they have expired by themselves.
type replayMemory struct {
	mu   sync.Mutex
	seen map[replayKey]time.Time
}

type replayKey struct{ client, jti string }

// first reports whether an assertion is new, and remembers it.
func (m *replayMemory) first(key replayKey, expiry, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.seen, func(_ replayKey, expiry time.Time) bool { return expiry.Before(now) })
	if _, seen := m.seen[key]; seen {
		return false
	}
	if m.seen == nil {
		m.seen = map[replayKey]time.Time{}
	}
	m.seen[key] = expiry
	return true
}
