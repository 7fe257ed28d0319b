package certcred

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins/internal/credfile"
)

// pair is a private key and the certificates that speak for it, the leaf first.
type pair struct {
	key   crypto.Signer
	chain []*x509.Certificate
}

// loadPair reads the files and checks that key and certificate belong together: a rotation that is
// half written must not reach the server.
func (s source) loadPair() (pair, error) {
	password, err := s.password()
	if err != nil {
		return pair{}, err
	}
	data, err := credfile.Read("certificate_file", s.CertificateFile)
	if err != nil {
		return pair{}, err
	}
	defer clear(data)
	key, chain, err := s.parse(data, password)
	if err != nil {
		return pair{}, err
	}
	chain, err = leafFirst(key, chain)
	if err != nil {
		return pair{}, fmt.Errorf("reading certificate_file %q: %w", s.CertificateFile, err)
	}
	return pair{key: key, chain: chain}, nil
}

// parse reads what certificate_file holds, and the private key from its own file if there is one.
func (s source) parse(data []byte, password secret.Value) (key crypto.Signer, chain []*x509.Certificate, err error) {
	bundle := isPKCS12(data)
	switch {
	case bundle && s.PrivateKeyFile != "":
		err = errors.New("it is PKCS#12, which holds the private key too; leave private_key_file out")
	case bundle:
		key, chain, err = parsePKCS12(data, password)
	default:
		chain, err = parseCertificates(data)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading certificate_file %q: %w", s.CertificateFile, err)
	}
	if bundle {
		return key, chain, nil
	}
	key, err = s.loadKey(data, password)
	return key, chain, err
}

func (s source) loadKey(certificates []byte, password secret.Value) (crypto.Signer, error) {
	name, path, data := "certificate_file", s.CertificateFile, certificates
	if s.PrivateKeyFile != "" {
		var err error
		name, path = "private_key_file", s.PrivateKeyFile
		if data, err = credfile.Read(name, path); err != nil {
			return nil, err
		}
		defer clear(data)
	}
	key, err := parsePrivateKey(data, password)
	if err != nil {
		return nil, fmt.Errorf("reading %s %q: %w", name, path, err)
	}
	return key, nil
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d is damaged: %w", len(chain)+1, err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, errors.New("it holds no PEM certificate")
	}
	return chain, nil
}

func parsePrivateKey(data []byte, password secret.Value) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return parseKeyBlock(block, password)
		}
	}
	return nil, errors.New("it holds no PEM private key")
}

// parseKeyBlock never passes on the parsers' errors: they may quote what they read.
func parseKeyBlock(block *pem.Block, password secret.Value) (crypto.Signer, error) {
	defer clear(block.Bytes)
	var key any
	var err error
	switch {
	case block.Headers["Proc-Type"] != "":
		return nil, errUnknownEncryption()
	case block.Type == "ENCRYPTED PRIVATE KEY":
		if key, err = decryptKey(block.Bytes, password); err != nil {
			return nil, err
		}
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, errors.New("the private key is damaged or of an unknown kind")
	}
	return usable(key)
}

// usable refuses a key that no server should accept a signature of.
func usable(key any) (crypto.Signer, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key cannot sign")
	}
	if weak, ok := key.(*rsa.PrivateKey); ok && weak.N.BitLen() < 2048 {
		return nil, errors.New("the RSA key has fewer than 2048 bits (RFC 7518, 3.3)")
	}
	return signer, nil
}

// leafFirst puts the key's own certificate to the front and what certifies it after it: bundles
// come in any order, and an x5c header may not (RFC 7515, 4.1.6).
func leafFirst(key crypto.Signer, chain []*x509.Certificate) ([]*x509.Certificate, error) {
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, errors.New("the private key is of an unknown kind")
	}
	leaf := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubjectPublicKeyInfo, public) })
	if leaf < 0 {
		return nil, errors.New("no certificate in it matches the private key; if they are being replaced, the other file is still to come")
	}
	ordered := []*x509.Certificate{chain[leaf]}
	rest := slices.Delete(chain, leaf, leaf+1)
	for next := 0; next >= 0 && len(rest) > 0; {
		last := ordered[len(ordered)-1]
		next = slices.IndexFunc(rest, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, last.RawIssuer) })
		if next >= 0 {
			ordered = append(ordered, rest[next])
			rest = slices.Delete(rest, next, next+1)
		}
	}
	return append(ordered, rest...), nil
}

// algorithm is the configured one, if the key can do it, else the best one for the key.
func (p pair) algorithm(configured jose.SignatureAlgorithm) (jose.SignatureAlgorithm, error) {
	possible, err := algorithmsOf(p.key)
	if err != nil {
		return "", err
	}
	if configured == "" {
		return possible[0], nil
	}
	for _, alg := range possible {
		if alg == configured {
			return alg, nil
		}
	}
	return "", fmt.Errorf("signing_alg %s does not fit the key, which can do %v", configured, possible)
}

func algorithmsOf(key crypto.Signer) ([]jose.SignatureAlgorithm, error) {
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		return []jose.SignatureAlgorithm{jose.PS256, jose.RS256}, nil
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			return []jose.SignatureAlgorithm{jose.ES256}, nil
		case elliptic.P384():
			return []jose.SignatureAlgorithm{jose.ES384}, nil
		}
		return nil, errors.New("the key's curve is neither P-256 nor P-384")
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}, nil
	}
	return nil, errors.New("the key is neither RSA, ECDSA nor Ed25519")
}
