// Package certcred is the credential provider for certificates: an assertion signed with the
// certificate's private key (private_key_jwt; RFC 7521, RFC 7523) or TLS client authentication
// with it (RFC 8705). Files are read afresh for every request, so a rotated certificate is used at
// once; a pair that does not match is never used.
package certcred

import (
	"context"
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
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/jwtcred"
)

// Name is what a configuration calls this provider.
const Name = "certcred"

// Provider implements [plugins.Provider].
type Provider struct{}

// Load implements [plugins.Source].
func (s source) Load(context.Context) (plugins.Credential, error) {
	p, err := s.loadPair()
	if err != nil {
		return plugins.Credential{}, err
	}
	alg, err := p.algorithm(s.SigningAlg)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("using certificate_file %q: %w", s.CertificateFile, err)
	}
	leaf := p.chain[0]
	thumbprint := sha256.Sum256(leaf.Raw)
	return plugins.Credential{
		NotBefore: leaf.NotBefore,
		NotAfter:  leaf.NotAfter,
		Identity:  "sha256:" + strings.ToUpper(hex.EncodeToString(thumbprint[:])),
		Authenticate: func(r *plugins.Request) error {
			if s.AuthMethod != methodPrivateKeyJWT {
				r.TLSCertificate = p.tlsCertificate()
				return nil
			}
			return s.assert(r, p, alg)
		},
	}, nil
}

func (p pair) tlsCertificate() *tls.Certificate {
	certificate := &tls.Certificate{PrivateKey: p.key, Leaf: p.chain[0]}
	for _, c := range p.chain {
		certificate.Certificate = append(certificate.Certificate, c.Raw)
	}
	return certificate
}

// assert adds a fresh assertion (RFC 7523, 3) to the request.
func (s source) assert(r *plugins.Request, p pair, alg jose.SignatureAlgorithm) error {
	audience, err := s.audience(r)
	if err != nil {
		return err
	}
	key := jose.SigningKey{Algorithm: alg, Key: cryptosigner.Opaque(saltedSigner{p.key})}
	signer, err := jose.NewSigner(key, s.header(p.chain))
	if err != nil {
		return errors.New("signing the assertion: the key does not fit the algorithm")
	}
	now := time.Now()
	assertion, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer:    r.ClientID,
		Subject:   r.ClientID,
		Audience:  jwt.Audience{audience},
		ID:        rand.Text(), // used once: servers refuse a jti that they have seen
		IssuedAt:  jwt.NewNumericDate(now),
		NotBefore: jwt.NewNumericDate(now),
		Expiry:    jwt.NewNumericDate(now.Add(time.Duration(s.AssertionLifetime))),
	}).Serialize()
	if err != nil {
		return errors.New("signing the assertion: the key refused")
	}
	r.Form.Set("client_assertion_type", jwtcred.AssertionType)
	r.Form.Set("client_assertion", assertion)
	return nil
}

// saltedSigner makes the salt of PS256 as long as the hash, as RFC 7518, 3.5 demands, where the
// library asks for the longest that fits.
type saltedSigner struct{ crypto.Signer }

// Sign implements [crypto.Signer].
func (s saltedSigner) Sign(random io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	if _, pss := options.(*rsa.PSSOptions); pss {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: options.HashFunc()}
	}
	return s.Signer.Sign(random, digest, options)
}

func (s source) audience(r *plugins.Request) (string, error) {
	switch {
	case s.AssertionAudience == audienceOfEndpoint:
		return r.TokenEndpoint, nil
	case s.AssertionAudience != audienceOfIssuer:
		return s.AssertionAudience, nil
	case r.Issuer == "":
		return "", errors.New("making the assertion: assertion_audience is issuer, but this client has none; configure issuer, or give the audience itself")
	}
	return r.Issuer, nil
}

// header names the certificate to the server: by thumbprint (RFC 7515, 4.1.7 and 4.1.8), by kid,
// or by the whole chain.
func (s source) header(chain []*x509.Certificate) *jose.SignerOptions {
	options := (&jose.SignerOptions{}).WithType("JWT")
	switch s.Thumbprint {
	case thumbprintSHA256:
		sum := sha256.Sum256(chain[0].Raw)
		options.WithHeader("x5t#S256", base64.RawURLEncoding.EncodeToString(sum[:]))
	case thumbprintSHA1:
		sum := sha1.Sum(chain[0].Raw) //nolint:gosec // see the import
		options.WithHeader("x5t", base64.RawURLEncoding.EncodeToString(sum[:]))
	}
	if s.KeyID != "" {
		options.WithHeader("kid", s.KeyID)
	}
	if s.SendX5C {
		encoded := make([]string, len(chain))
		for i, certificate := range chain {
			encoded[i] = base64.StdEncoding.EncodeToString(certificate.Raw)
		}
		options.WithHeader("x5c", encoded)
	}
	return options
}
