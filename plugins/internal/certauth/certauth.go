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
	"encoding/hex"
	"errors"
	"io"
	"strings"
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

// Credential returns what authenticates requests with a pair. It fails if the key cannot do what is configured.
func (c Config) Credential(p Pair) (plugins.Credential, error) {
	leaf := p.Chain[0]
	thumbprint := sha256.Sum256(leaf.Raw)
	credential := plugins.Credential{
		NotBefore: leaf.NotBefore,
		NotAfter:  leaf.NotAfter,
		Identity:  "sha256:" + strings.ToUpper(hex.EncodeToString(thumbprint[:])),
		Serial:    leaf.SerialNumber.Text(16),
	}
	if c.AuthMethod != methodPrivateKeyJWT {
		credential.Authenticate = func(r *plugins.Request) error {
			r.TLSCertificate = p.tlsCertificate()
			return nil
		}
		return credential, p.fitForTLS()
	}
	alg, err := p.algorithm(c.SigningAlg)
	credential.Authenticate = func(r *plugins.Request) error { return c.assert(r, p, alg) }
	return credential, err
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
	audience, err := c.audience(r)
	if err != nil {
		return err
	}
	key := jose.SigningKey{Algorithm: alg, Key: cryptosigner.Opaque(saltedSigner{p.Key})}
	signer, err := jose.NewSigner(key, c.header(p.Chain))
	if err != nil {
		return errors.New("signing the assertion: the key does not fit the algorithm")
	}
	now := time.Now()
	assertion, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer:    r.ClientID,
		Subject:   r.ClientID,
		Audience:  jwt.Audience{audience},
		ID:        rand.Text(), // used once: servers refuse a repeated jti
		IssuedAt:  jwt.NewNumericDate(now.Add(-clockMargin)),
		NotBefore: jwt.NewNumericDate(now.Add(-clockMargin)),
		Expiry:    jwt.NewNumericDate(now.Add(time.Duration(c.AssertionLifetime))),
	}).Serialize()
	if err != nil {
		return notSigned(err)
	}
	r.Form.Set("client_assertion_type", assertionType)
	r.Form.Set("client_assertion", assertion)
	return nil
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
	case c.AssertionAudience == audienceOfEndpoint:
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
	switch c.Thumbprint {
	case thumbprintSHA256:
		sum := sha256.Sum256(chain[0].Raw)
		options.WithHeader("x5t#S256", base64.RawURLEncoding.EncodeToString(sum[:]))
	case thumbprintSHA1:
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
