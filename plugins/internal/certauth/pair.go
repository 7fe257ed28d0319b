package certauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// shortestRSA is the fewest bits of an RSA key that signs (RFC 7518, 3.3 and 3.5).
const shortestRSA = 2048

// Pair is a private key and its certificates. [NewPair] creates one.
type Pair struct {
	Key   crypto.Signer
	Chain []*x509.Certificate // the key's own first, each followed by its issuer's; none for a key alone
	// Others are certificates outside the chain, from which a TLS server may build another one.
	Others []*x509.Certificate
}

// NewKey returns a key without a certificate, which signs assertions but cannot authenticate a TLS connection. It fails
// if the key is weak.
func NewKey(key crypto.Signer) (Pair, error) { return Pair{Key: key}, strong(key) }

// strong reports a key that no server should accept.
func strong(key crypto.Signer) error {
	if weak, ok := key.Public().(*rsa.PublicKey); ok && weak.N.BitLen() < shortestRSA {
		return fmt.Errorf("the RSA key has %d bits, which no server should accept; make a new one of %d bits at least (RFC 7518, 3.3)", weak.N.BitLen(), shortestRSA)
	}
	return nil
}

// leaf returns the key's own certificate; nil for a key alone.
func (p Pair) leaf() *x509.Certificate {
	if len(p.Chain) == 0 {
		return nil
	}
	return p.Chain[0]
}

// identity returns the SHA-256 thumbprint of the certificate, or of the public key where there is none.
func (p Pair) identity() string {
	public := []byte(nil)
	if leaf := p.leaf(); leaf != nil {
		public = leaf.Raw
	} else if der, err := x509.MarshalPKIXPublicKey(p.Key.Public()); err == nil {
		public = der
	}
	sum := sha256.Sum256(public)
	return "sha256:" + strings.ToUpper(hex.EncodeToString(sum[:]))
}

// NewPair sorts the certificates, which may be in any order: the key's own first, then its issuers. The root is left
// out: a server that trusts it has it, and others cannot use it (RFC 8446, 4.4.2). It fails if no certificate is for
// the key, or the key is weak.
func NewPair(key crypto.Signer, certificates []*x509.Certificate) (Pair, error) {
	if err := strong(key); err != nil {
		return Pair{}, err
	}
	leaf := slices.IndexFunc(certificates, func(c *x509.Certificate) bool { return Certifies(c, key.Public()) })
	if leaf < 0 {
		return Pair{}, errors.New("no certificate in it matches the private key; if they are being replaced, the other file is still to come")
	}
	p := Pair{Key: key, Chain: []*x509.Certificate{certificates[leaf]}, Others: slices.Delete(slices.Clone(certificates), leaf, leaf+1)}
	p.Others = slices.DeleteFunc(p.Others, isRoot)
	for next := 0; next >= 0; {
		last := p.Chain[len(p.Chain)-1]
		next = slices.IndexFunc(p.Others, func(c *x509.Certificate) bool { return issued(c, last) })
		if next >= 0 {
			p.Chain = append(p.Chain, p.Others[next])
			p.Others = slices.Delete(p.Others, next, next+1)
		}
	}
	return p, nil
}

// Certifies reports whether a certificate is for a public key.
func Certifies(c *x509.Certificate, key crypto.PublicKey) bool {
	own, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	return ok && own.Equal(PublicKey(c))
}

func isRoot(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// issued reports whether issuer signed c. Comparing names is not enough: a CA that changed its key keeps its name.
func issued(issuer, c *x509.Certificate) bool {
	return bytes.Equal(issuer.RawSubject, c.RawIssuer) &&
		(len(issuer.SubjectKeyId) == 0 || len(c.AuthorityKeyId) == 0 || bytes.Equal(issuer.SubjectKeyId, c.AuthorityKeyId))
}

// fitForTLS explains why the key cannot authenticate by TLS.
func (p Pair) fitForTLS() error {
	if restricted, _ := pssOnly(p.Chain[0]); restricted {
		return errors.New("the key is restricted to RSA-PSS (id-RSASSA-PSS), which credagent's TLS does not know; use auth_method private_key_jwt, or the certificate of an ordinary RSA key")
	}
	switch p.Key.Public().(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
		return nil
	}
	return ErrUnknownKey()
}

// algorithm returns the configured algorithm, if the key supports it, else the best one for the key.
func (p Pair) algorithm(configured jose.SignatureAlgorithm) (jose.SignatureAlgorithm, error) {
	possible, err := p.algorithms()
	if err != nil {
		return "", err
	}
	if configured == "" {
		return possible[0], nil
	}
	if !slices.Contains(possible, configured) {
		return "", fmt.Errorf("signing_alg %s does not fit the key, which can do %v", configured, possible)
	}
	return configured, nil
}

func (p Pair) algorithms() ([]jose.SignatureAlgorithm, error) {
	switch public := p.Key.Public().(type) {
	case *rsa.PublicKey:
		restricted, err := false, error(nil)
		if leaf := p.leaf(); leaf != nil {
			restricted, err = pssOnly(leaf)
		}
		if restricted {
			return []jose.SignatureAlgorithm{jose.PS256}, err
		}
		return []jose.SignatureAlgorithm{jose.PS256, jose.RS256}, nil
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			return []jose.SignatureAlgorithm{jose.ES256}, nil
		case elliptic.P384():
			return []jose.SignatureAlgorithm{jose.ES384}, nil
		}
		return nil, fmt.Errorf("the key's curve is %s, with which credagent signs no assertion; use P-256 or P-384, or TLS client authentication", public.Params().Name)
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}, nil
	}
	return nil, ErrUnknownKey()
}
