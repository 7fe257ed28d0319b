package devserver

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"sync"
)

// signer has the keys that SETs are signed with. They are made when they are first needed.
type signer struct {
	mu      sync.Mutex
	current *rsa.PrivateKey // guarded by mu, as is all that follows; nil before
	name    string          // its kid
	count   int
}

const signingBits = 2048

// key returns the key that is in use, and its kid.
func (s *signer) key() (*rsa.PrivateKey, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		if err := s.rotate(); err != nil {
			return nil, "", err
		}
	}
	return s.current, s.name, nil
}

// rotate makes another key; s.mu is held.
func (s *signer) rotate() error {
	key, err := rsa.GenerateKey(rand.Reader, signingBits)
	if err != nil {
		return fmt.Errorf("making a key for SETs: %w", err)
	}
	s.count++
	s.current, s.name = key, fmt.Sprintf("key-%d", s.count)
	return nil
}

// RotateSignalKey has SETs signed with another key from now on. The one before is forgotten.
func (s *Server) RotateSignalKey() error {
	s.transmitter.signer.mu.Lock()
	defer s.transmitter.signer.mu.Unlock()
	return s.transmitter.signer.rotate()
}

// SignalKey is the public key of SETs, and its kid.
func (s *Server) SignalKey() (*rsa.PublicKey, string, error) {
	key, kid, err := s.transmitter.signer.key()
	if err != nil {
		return nil, "", err
	}
	return &key.PublicKey, kid, nil
}

// SignSET signs claims as a SET, with RS256. The header's fields beside alg, kid and typ are replaced by
// those given.
func (s *Server) SignSET(header, claims map[string]any) (string, error) {
	key, kid, err := s.transmitter.signer.key()
	if err != nil {
		return "", err
	}
	whole := map[string]any{"alg": "RS256", "kid": kid, "typ": "secevent+jwt"}
	maps.Copy(whole, header)
	first, errHeader := json.Marshal(whole)
	second, errClaims := json.Marshal(claims)
	if err := errors.Join(errHeader, errClaims); err != nil {
		return "", fmt.Errorf("making a SET: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(first) + "." + base64.RawURLEncoding.EncodeToString(second)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("signing a SET: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// serveSignalKeys serves the public key of SETs (RFC 7517, 5).
func (s *Server) serveSignalKeys(w http.ResponseWriter, _ *http.Request) {
	key, kid, err := s.SignalKey()
	if err != nil {
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
		"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
	}}})
}
