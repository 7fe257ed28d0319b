//go:build unix

package oidctest

import (
	"crypto"
	"crypto/x509"

	"github.com/go-jose/go-jose/v4"
)

// Client is the registration of a client at the server (RFC 7591). There is a constructor for each authentication
// method; the remaining fields can be set afterwards.
type Client struct {
	ID         string              `json:"client_id"`
	Secret     string              `json:"client_secret,omitempty"`
	AuthMethod string              `json:"token_endpoint_auth_method"`
	SigningAlg string              `json:"token_endpoint_auth_signing_alg,omitempty"`
	JWKS       *jose.JSONWebKeySet `json:"jwks,omitempty"`
	SubjectDN  string              `json:"tls_client_auth_subject_dn,omitempty"` // as RFC 4514 writes it

	// Scope limits the client to these space-separated scopes; empty allows all of the server's.
	Scope string `json:"scope,omitempty"`
	// GrantTypes is client_credentials when nil; an empty list allows none.
	GrantTypes []string `json:"grant_types,omitzero"`
	// CertificateBound ties every token to the TLS client certificate of its request (RFC 8705, 3).
	CertificateBound bool `json:"tls_client_certificate_bound_access_tokens,omitempty"`
}

// SecretBasic is a client that sends its secret in the Authorization header (RFC 6749, 2.3.1).
func SecretBasic(id, secret string) Client {
	return Client{ID: id, Secret: secret, AuthMethod: "client_secret_basic"}
}

// SecretPost is a client that sends its secret in the body (RFC 6749, 2.3.1).
func SecretPost(id, secret string) Client {
	return Client{ID: id, Secret: secret, AuthMethod: "client_secret_post"}
}

// PrivateKeyJWT is a client that signs an assertion (RFC 7523, 2.2) with PS256, RS256, ES256, ES384
// or EdDSA. The key is a public key or an [*x509.Certificate], and is registered without a key id.
func PrivateKeyJWT(id, alg string, key crypto.PublicKey) Client {
	jwk := jose.JSONWebKey{Key: key, Algorithm: alg, Use: "sig"}
	if cert, ok := key.(*x509.Certificate); ok {
		jwk.Key, jwk.Certificates = cert.PublicKey, []*x509.Certificate{cert}
	}
	return Client{ID: id, AuthMethod: "private_key_jwt", SigningAlg: alg, JWKS: keySet(jwk)}
}

// TLSClientAuth is a client known by the subject of its certificate (RFC 8705, 2.1), which must
// come from one of the roots given with [WithClientRoots].
func TLSClientAuth(id string, cert *x509.Certificate) Client {
	return Client{ID: id, AuthMethod: "tls_client_auth", SubjectDN: cert.Subject.String()}
}

// SelfSignedTLSClientAuth is a client known by its exact certificate (RFC 8705, 2.2).
func SelfSignedTLSClientAuth(id string, cert *x509.Certificate) Client {
	jwk := jose.JSONWebKey{Key: cert.PublicKey, Certificates: []*x509.Certificate{cert}}
	return Client{ID: id, AuthMethod: "self_signed_tls_client_auth", JWKS: keySet(jwk)}
}

func keySet(jwk jose.JSONWebKey) *jose.JSONWebKeySet {
	return &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{jwk}}
}
