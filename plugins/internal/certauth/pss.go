package certauth

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
)

// RSA keys that may only be used for RSA-PSS have their own identifier, id-RSASSA-PSS (RFC 4055, 1.2), which Go's
// library does not support. Otherwise they are ordinary RSA keys.
const (
	idRSASSAPSS = "1.2.840.113549.1.1.10"
	idSHA256    = "2.16.840.1.101.3.4.2.1"
)

type publicKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

// pssParameters are further restrictions of such a key (RFC 4055, 3.1). The salt is the shortest allowed.
type pssParameters struct {
	Hash       pkix.AlgorithmIdentifier `asn1:"optional,explicit,tag:0"`
	Mask       pkix.AlgorithmIdentifier `asn1:"optional,explicit,tag:1"`
	SaltLength int                      `asn1:"optional,explicit,tag:2,default:20"`
	Trailer    int                      `asn1:"optional,explicit,tag:3,default:1"`
}

// PublicKey returns a certificate's public key; nil if its kind is unknown.
func PublicKey(c *x509.Certificate) crypto.PublicKey {
	info, restricted := pssKeyInfo(c)
	if !restricted {
		return c.PublicKey
	}
	key, err := x509.ParsePKCS1PublicKey(info.Key.RightAlign())
	if err != nil {
		return nil
	}
	return key
}

// pssOnly reports whether a certificate's key is for RSA-PSS only, with the reason if it does not even allow PS256.
func pssOnly(c *x509.Certificate) (restricted bool, err error) {
	info, restricted := pssKeyInfo(c)
	if !restricted || len(info.Algorithm.Parameters.FullBytes) == 0 {
		return restricted, nil
	}
	var parameters pssParameters
	rest, err := asn1.Unmarshal(info.Algorithm.Parameters.FullBytes, &parameters)
	if err != nil || len(rest) > 0 || parameters.Hash.Algorithm.String() != idSHA256 || parameters.SaltLength > sha256.Size {
		return true, errors.New("the key is restricted to an RSA-PSS other than that of PS256, SHA-256 with a salt of 32 bytes; make one without that restriction")
	}
	return true, nil
}

func pssKeyInfo(c *x509.Certificate) (publicKeyInfo, bool) {
	var info publicKeyInfo
	rest, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info)
	return info, err == nil && len(rest) == 0 && info.Algorithm.Algorithm.String() == idRSASSAPSS
}

// ParsePKCS8 reads an unencrypted PKCS#8 key. Its error shows nothing of the key.
func ParsePKCS8(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		key, err = parseRestricted(der)
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, ErrUnknownKey()
	}
	return signer, nil
}

// ErrUnknownKey returns the error for a private key that cannot be read.
func ErrUnknownKey() error {
	return errors.New("the private key is damaged or of an unknown kind; known are RSA, P-256, P-384, P-521 and Ed25519")
}

// parseRestricted reads an RSA key that is for RSA-PSS only (RFC 5958, 2).
func parseRestricted(der []byte) (*rsa.PrivateKey, error) {
	var info struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		Key        []byte
		Attributes asn1.RawValue `asn1:"optional,tag:0"`
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil || info.Algorithm.Algorithm.String() != idRSASSAPSS {
		return nil, errors.New("not an RSA-PSS key")
	}
	defer clear(info.Key)
	return x509.ParsePKCS1PrivateKey(info.Key)
}
