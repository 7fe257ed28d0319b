package devserver

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// assertion is a parsed JWT (RFC 7519) in JWS compact form; nothing in it has been verified.
type assertion struct {
	header    joseHeader
	claims    claims
	signed    []byte
	signature []byte
}

type joseHeader struct {
	Algorithm        string          `json:"alg"`
	KeyID            string          `json:"kid"`
	Thumbprint       string          `json:"x5t"`
	ThumbprintSHA256 string          `json:"x5t#S256"`
	Chain            []string        `json:"x5c"`
	Critical         json.RawMessage `json:"crit"`
}

type claims struct {
	Issuer    string       `json:"iss"`
	Subject   string       `json:"sub"`
	Audience  audience     `json:"aud"`
	Expiry    *numericDate `json:"exp"`
	NotBefore *numericDate `json:"nbf"`
	IssuedAt  *numericDate `json:"iat"`
	ID        string       `json:"jti"`
	Scope     *string      `json:"scope"`
}

// numericDate is seconds since the epoch, possibly with a fraction (RFC 7519, 2).
type numericDate float64

// maxNumericDate is the end of the year 9999; a later date is a mistake.
const maxNumericDate = 253402300799

func (d numericDate) time() time.Time {
	seconds := min(max(float64(d), 0), maxNumericDate)
	return time.UnixMicro(int64(seconds * 1e6))
}

// audience is one string or an array of them (RFC 7519, 4.1.3).
type audience []string

// UnmarshalJSON implements [json.Unmarshaler].
func (a *audience) UnmarshalJSON(data []byte) error {
	if one := ""; json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

func (a audience) has(want string) bool { return slices.Contains(a, want) }

// parseAssertion reads a JWT. Its errors never quote the JWT.
func parseAssertion(text string) (assertion, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return assertion{}, fmt.Errorf("a signed JWT has three parts, this one has %d", len(parts))
	}
	var a assertion
	if err := decodePart(parts[0], &a.header); err != nil {
		return assertion{}, fmt.Errorf("reading its header: %w", err)
	}
	if err := decodePart(parts[1], &a.claims); err != nil {
		return assertion{}, fmt.Errorf("reading its claims: %w", err)
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || strings.ContainsAny(parts[2], "\r\n") {
		return assertion{}, errors.New("reading its signature: not base64url")
	}
	// Nothing critical is understood here, so anything critical must be refused (RFC 7515, 4.1.11).
	if a.header.Critical != nil {
		return assertion{}, errors.New("reading its header: crit is not supported")
	}
	a.signed, a.signature = []byte(parts[0]+"."+parts[1]), signature
	return a, nil
}

func decodePart(part string, into any) error {
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || strings.ContainsAny(part, "\r\n") {
		return errors.New("not base64url")
	}
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) || json.Unmarshal(data, into) != nil {
		return errors.New("not the JSON object it should be")
	}
	return nil
}

func (c claims) expiry() time.Time { return c.Expiry.time() }

func (c claims) checkTimes(now time.Time) *refusal {
	switch {
	case c.Expiry == nil:
		return invalidClient(700024, "the assertion has no exp")
	case !c.expiry().After(now):
		return invalidClient(700024, "Client assertion is not within its valid time range: it expired at %s", entraTime(c.expiry()))
	case c.NotBefore != nil && c.NotBefore.time().After(now.Add(clockLeeway)):
		return invalidClient(700024, "Client assertion is not within its valid time range: its nbf is in the future")
	case c.IssuedAt != nil && c.IssuedAt.time().After(now.Add(clockLeeway)):
		return invalidClient(700024, "Client assertion is not within its valid time range: its iat is in the future")
	}
	return nil
}

// verifier is a key that may verify a client's assertions, with its names.
type verifier struct {
	id   string
	key  crypto.PublicKey
	cert *x509.Certificate
	kids []string
}

func (c Client) verifiers() []verifier {
	var all []verifier
	for _, cert := range c.Certificates {
		all = append(all, c.certVerifier(cert))
	}
	for kid, key := range c.PublicKeys {
		all = append(all, verifier{id: kid, key: key, kids: []string{kid}})
	}
	return all
}

func (c Client) certVerifier(cert *x509.Certificate) verifier {
	short, long := sha1.Sum(cert.Raw), sha256.Sum256(cert.Raw)
	v := verifier{id: hex.EncodeToString(long[:]), key: cert.PublicKey, cert: cert}
	for _, sum := range [][]byte{short[:], long[:]} {
		lower := hex.EncodeToString(sum)
		v.kids = append(v.kids, lower, strings.ToUpper(lower), base64.RawURLEncoding.EncodeToString(sum))
	}
	for kid, key := range c.PublicKeys {
		if sameKey(key, cert.PublicKey) {
			v.kids = append(v.kids, kid)
		}
	}
	return v
}

func sameKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// verify finds the registered key that the assertion's header names and that signed it.
func (c Client) verify(a assertion, mustName bool) (verifier, *refusal) {
	if mustName && !a.header.namesKey() {
		return verifier{}, invalidClient(700027, "the assertion's header names no key: x5t, x5t#S256 or kid is required")
	}
	refused := invalidClient(700027, "Client assertion failed signature validation: the key was not found")
	for _, v := range c.verifiers() {
		if !a.header.names(v) {
			continue
		}
		if !a.signedBy(v.key) {
			refused = invalidClient(700027, "Client assertion failed signature validation")
			continue
		}
		return v, v.checkValidity(time.Now())
	}
	return verifier{}, refused
}

func (v verifier) checkValidity(now time.Time) *refusal {
	if v.cert == nil || (!now.Before(v.cert.NotBefore) && !now.After(v.cert.NotAfter)) {
		return nil
	}
	return invalidClient(700027, "the client's certificate is valid only from %s to %s",
		entraTime(v.cert.NotBefore), entraTime(v.cert.NotAfter))
}

func (h joseHeader) namesKey() bool {
	return h.KeyID != "" || h.Thumbprint != "" || h.ThumbprintSHA256 != "" || len(h.Chain) > 0
}

// names reports whether everything in the header about its key matches v.
func (h joseHeader) names(v verifier) bool {
	if h.KeyID != "" && !slices.Contains(v.kids, h.KeyID) {
		return false
	}
	if h.Thumbprint == "" && h.ThumbprintSHA256 == "" && len(h.Chain) == 0 {
		return true
	}
	return v.cert != nil && h.describes(v.cert)
}

func (h joseHeader) describes(cert *x509.Certificate) bool {
	short, long := sha1.Sum(cert.Raw), sha256.Sum256(cert.Raw)
	encode := base64.RawURLEncoding.EncodeToString
	return (h.Thumbprint == "" || h.Thumbprint == encode(short[:])) &&
		(h.ThumbprintSHA256 == "" || h.ThumbprintSHA256 == encode(long[:])) &&
		(len(h.Chain) == 0 || h.Chain[0] == base64.StdEncoding.EncodeToString(cert.Raw))
}

// signedBy reports whether the signature is by key, with an algorithm made for such a key:
// the header alone never decides (RFC 8725, 3.1).
func (a assertion) signedBy(key crypto.PublicKey) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return a.signedByRSA(key)
	case *ecdsa.PublicKey:
		return a.signedByEC(key)
	case ed25519.PublicKey:
		return a.header.Algorithm == "EdDSA" && len(key) == ed25519.PublicKeySize && ed25519.Verify(key, a.signed, a.signature)
	}
	return false
}

func (a assertion) signedByRSA(key *rsa.PublicKey) bool {
	digest := sha256.Sum256(a.signed)
	switch a.header.Algorithm {
	case "RS256":
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], a.signature) == nil
	case "PS256":
		options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		return rsa.VerifyPSS(key, crypto.SHA256, digest[:], a.signature, options) == nil
	}
	return false
}

func (a assertion) signedByEC(key *ecdsa.PublicKey) bool {
	var digest []byte
	switch {
	case a.header.Algorithm == "ES256" && key.Curve == elliptic.P256():
		sum := sha256.Sum256(a.signed)
		digest = sum[:]
	case a.header.Algorithm == "ES384" && key.Curve == elliptic.P384():
		sum := sha512.Sum384(a.signed)
		digest = sum[:]
	default:
		return false
	}
	size := key.Curve.Params().BitSize / 8
	if len(a.signature) != 2*size {
		return false
	}
	r, s := new(big.Int).SetBytes(a.signature[:size]), new(big.Int).SetBytes(a.signature[size:])
	return ecdsa.Verify(key, digest, r, s)
}
