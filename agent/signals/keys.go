package signals

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keysLife is how long keys are used before they are asked for again, so that one that was withdrawn
	// goes.
	keysLife = 24 * time.Hour
	// keysRest is between two requests for keys, whatever SETs name.
	keysRest = time.Minute
	// maxKeys bounds the keys of a transmitter.
	maxKeys = 100
	// minRSA is the least length of an RSA key, in bits (CAEP interoperability profile, 2.6).
	minRSA = 2048
)

// keys are the transmitter's public keys.
type keys []jose.JSONWebKey

// readKeys reads a JWK Set (RFC 7517, 5). Keys that cannot be used are left out, as those of kinds that
// are not known.
func readKeys(body []byte) (keys, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &document); err != nil || document.Keys == nil {
		return nil, errors.New("it is no JWK Set")
	}
	var all keys
	for _, raw := range document.Keys[:min(len(document.Keys), maxKeys)] {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) == nil && usable(key) {
			all = append(all, key)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("there is no key for signatures in it")
	}
	return all, nil
}

func usable(key jose.JSONWebKey) bool {
	if !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
		return false
	}
	if public, isRSA := key.Key.(*rsa.PublicKey); isRSA {
		return public.N.BitLen() >= minRSA
	}
	return true
}

// verify returns what a key of the transmitter's signed.
func (all keys) verify(signed *jose.JSONWebSignature, kid, alg string) ([]byte, error) {
	found := false
	for _, key := range all {
		if kid != "" && key.KeyID != kid || !suits(key, alg) {
			continue
		}
		found = true
		if plain, err := signed.Verify(key.Key); err == nil {
			return plain, nil
		}
	}
	if found && kid != "" {
		return nil, refuse(codeKey, "its signature is not by the key that it names")
	}
	return nil, errUnknownKey
}

// suits reports whether a key is one for an algorithm.
func suits(key jose.JSONWebKey, alg string) bool {
	if key.Algorithm != "" && key.Algorithm != alg {
		return false
	}
	switch key.Key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return strings.HasPrefix(alg, "ES")
	case ed25519.PublicKey:
		return alg == string(jose.EdDSA)
	}
	return false
}
