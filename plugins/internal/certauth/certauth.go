// Package certauth authenticates a client with a certificate, wherever its private key is: by an
// assertion signed with the key (private_key_jwt; RFC 7521, RFC 7523) or by TLS client
// authentication (RFC 8705). The providers for files and for PKCS#11 tokens share it. It reads no file, and does not
// show why a key did not sign, unless the error is a [SignError].
package certauth

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the x5t header is a SHA-1 thumbprint by definition (RFC 7515, 4.1.7)
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credagent/credagent/plugins"
)

// assertionType is the client_assertion_type of a JWT (RFC 7523, 2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// SignError explains why a key did not sign, in text that contains nothing secret.
type SignError struct{ Message string }

// Error implements error.
func (e *SignError) Error() string { return e.Message }

// Credential returns what authenticates requests with a pair, and signs grants. It fails if the key cannot do what is
// configured.
func (c Config) Credential(p Pair) (plugins.Credential, error) {
	credential := plugins.Credential{Identity: p.identity()}
	if leaf := p.leaf(); leaf != nil {
		credential.NotBefore, credential.NotAfter, credential.Serial = leaf.NotBefore, leaf.NotAfter, leaf.SerialNumber.Text(16)
	}
	alg, unable := p.algorithm(c.SigningAlg)
	if unable == nil {
		credential.Sign = func(r *plugins.Request, a plugins.Assertion) (string, error) { return c.signGrant(r, a, p, alg) }
	}
	switch c.AuthMethod {
	case methodNone:
		credential.Authenticate = c.leaveAlone
		return credential, unable
	case methodPrivateKeyJWT:
		credential.Authenticate = func(r *plugins.Request) error { return c.assert(r, p, alg) }
		return credential, unable
	}
	credential.Authenticate = func(r *plugins.Request) error {
		r.TLSCertificate = p.tlsCertificate()
		return nil
	}
	return credential, p.fitForTLS()
}

// leaveAlone is the client authentication of auth_method none. The assertion names the client, so that
// client_id is only for servers that want it all the same (RFC 7521, 4.1).
func (c Config) leaveAlone(r *plugins.Request) error {
	if r.Form.Get("grant_type") == "client_credentials" {
		return &plugins.ConfigError{Key: "auth_method", Message: "is none, which authenticates no client, so that no server gives a token for grant client_credentials"}
	}
	if !c.SendClientID {
		r.Form.Del("client_id")
	}
	return nil
}

func (p Pair) tlsCertificate() *tls.Certificate {
	certificate := &tls.Certificate{PrivateKey: p.Key, Leaf: p.Chain[0]}
	for _, c := range p.Chain {
		certificate.Certificate = append(certificate.Certificate, c.Raw)
	}
	for _, c := range p.Others {
		certificate.Certificate = append(certificate.Certificate, c.Raw)
	}
	return certificate
}

// clockMargin is how far the server's clock may be behind this host's: a server that allows no skew refuses an
// assertion from the future. The remaining lifetime is still as configured, and assertions stay far below any
// server's limit.
const clockMargin = 10 * time.Second

// assert adds a fresh assertion (RFC 7523, 3) to the request.
func (c Config) assert(r *plugins.Request, p Pair, alg jose.SignatureAlgorithm) error {
	assertion, err := c.sign(r, p, alg, map[string]any{"iss": r.ClientID, "sub": r.ClientID})
	if err != nil {
		return err
	}
	r.Form.Set("client_assertion_type", assertionType)
	r.Form.Set("client_assertion", assertion)
	return nil
}

// sign signs an assertion with these claims, and those that every one has: the audience, the times, and an
// identifier, as servers refuse a jti that they have seen.
func (c Config) sign(r *plugins.Request, p Pair, alg jose.SignatureAlgorithm, claims map[string]any) (string, error) {
	audience, err := c.audience(r)
	if err != nil {
		return "", err
	}
	key := jose.SigningKey{Algorithm: alg, Key: cryptosigner.Opaque(saltedSigner{p.Key})}
	signer, err := jose.NewSigner(key, c.header(p.Chain))
	if err != nil {
		return "", errors.New("signing the assertion: the key does not fit the algorithm")
	}
	now := time.Now()
	claims["aud"], claims["jti"] = audience, rand.Text()
	claims["iat"] = jwt.NewNumericDate(now.Add(-clockMargin))
	claims["nbf"] = claims["iat"]
	claims["exp"] = jwt.NewNumericDate(now.Add(time.Duration(c.AssertionLifetime)))
	assertion, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		return "", notSigned(err)
	}
	return assertion, nil
}

func notSigned(err error) error {
	var shown *SignError
	if errors.As(err, &shown) {
		return errors.New("signing the assertion: " + shown.Message)
	}
	return errors.New("signing the assertion: the key refused")
}

// saltedSigner makes the salt of PS256 as long as the hash, as RFC 7518, 3.5 requires; the library asks for the
// longest that fits.
type saltedSigner struct{ crypto.Signer }

// Sign implements [crypto.Signer].
func (s saltedSigner) Sign(random io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	if _, pss := options.(*rsa.PSSOptions); pss {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: options.HashFunc()}
	}
	return s.Signer.Sign(random, digest, options)
}

func (c Config) audience(r *plugins.Request) (string, error) {
	switch {
	case c.AssertionAudience == AudienceOfEndpoint:
		return r.TokenEndpoint, nil
	case c.AssertionAudience != audienceOfIssuer:
		return c.AssertionAudience, nil
	case r.Issuer == "":
		return "", errors.New("making the assertion: assertion_audience is issuer, but this client has none; configure issuer, or give the audience itself")
	}
	return r.Issuer, nil
}

// header names the certificate to the server: by thumbprint (RFC 7515, 4.1.7 and 4.1.8), by kid,
// or by the whole chain.
func (c Config) header(chain []*x509.Certificate) *jose.SignerOptions {
	options := (&jose.SignerOptions{}).WithType("JWT")
	switch {
	case len(chain) == 0: // a key alone
	case c.Thumbprint == thumbprintSHA256:
		sum := sha256.Sum256(chain[0].Raw)
		options.WithHeader("x5t#S256", base64.RawURLEncoding.EncodeToString(sum[:]))
	case c.Thumbprint == thumbprintSHA1:
		sum := sha1.Sum(chain[0].Raw) //nolint:gosec // see the import
		options.WithHeader("x5t", base64.RawURLEncoding.EncodeToString(sum[:]))
	}
	if c.KeyID != "" {
		options.WithHeader("kid", c.KeyID)
	}
	if c.SendX5C {
		encoded := make([]string, len(chain))
		for i, certificate := range chain {
			encoded[i] = base64.StdEncoding.EncodeToString(certificate.Raw)
		}
		options.WithHeader("x5c", encoded)
	}
	return options
}
