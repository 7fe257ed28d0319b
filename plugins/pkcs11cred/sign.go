package pkcs11cred

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/credagent/credagent/plugins/internal/certauth"
)

// Values of PKCS#11 3.0 that package pkcs11 does not define.
const (
	kindEdwards         = 0x40   // CKK_EC_EDWARDS
	mechanismEdDSA      = 0x1057 // CKM_EDDSA
	unknownKind    uint = 0xffffffff
)

// signer is the key on the token as a [crypto.Signer]. It outlives sessions.
type signer struct {
	source source
	public crypto.PublicKey
}

// Public implements [crypto.Signer].
func (k signer) Public() crypto.PublicKey { return k.public }

// Sign implements [crypto.Signer]. The token's signature is verified: here a faulty signature can be distinguished
// from a wrong key.
func (k signer) Sign(_ io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	if ec, ok := k.public.(*ecdsa.PublicKey); ok {
		// A longer one is cut off anyway (FIPS 186-5, 6.4.1), but not by every token.
		digest = digest[:min(len(digest), (ec.Params().BitSize+7)/8)]
	}
	var signature []byte
	err := k.source.provider.use(context.Background(), k.source, func(d *device) (err error) {
		if d.wanted != k.source.wanted() {
			if err := d.findKey(k.source); err != nil {
				return err
			}
		}
		signature, err = d.sign(digest, options)
		return err
	})
	if err == nil && !verifies(k.public, digest, signature, options) {
		err = errors.New("what the token signed does not verify with the certificate; was the key replaced?")
	}
	if err != nil {
		return nil, &certauth.SignError{Message: describe(err)}
	}
	return signature, nil
}

// sign has the token sign, and converts the result to what package crypto expects.
func (d *device) sign(digest []byte, options crypto.SignerOpts) ([]byte, error) {
	mechanism, input, err := d.mechanism(digest, options)
	if err != nil {
		return nil, err
	}
	if err := d.library.SignInit(d.session, []*pkcs11.Mechanism{mechanism}, d.key); err != nil {
		return nil, fmt.Errorf("beginning a signature: %w", err)
	}
	signature, err := d.library.Sign(d.session, input)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	if d.kind == pkcs11.CKK_EC {
		return sequence(signature)
	}
	return signature, nil
}

// mechanism returns the mechanism for a signature, and its input.
func (d *device) mechanism(digest []byte, options crypto.SignerOpts) (*pkcs11.Mechanism, []byte, error) {
	pss, isPSS := options.(*rsa.PSSOptions)
	switch {
	case d.kind == pkcs11.CKK_RSA && isPSS:
		parameters, err := pssParameters(pss)
		return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, parameters), digest, err
	case d.kind == pkcs11.CKK_RSA:
		prefix, known := digestInfo[options.HashFunc()]
		if !known {
			return nil, nil, fmt.Errorf("signing with %s is not supported", options.HashFunc())
		}
		return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil), append([]byte(prefix), digest...), nil
	case d.kind == pkcs11.CKK_EC:
		return pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil), digest, nil
	case d.kind == kindEdwards && options.HashFunc() == 0:
		return pkcs11.NewMechanism(mechanismEdDSA, nil), digest, nil
	}
	return nil, nil, errors.New("the key is neither RSA, ECDSA nor Ed25519")
}

// digestInfo is the prefix of a digest in a PKCS#1 1.5 signature (RFC 8017, 9.2).
var digestInfo = map[crypto.Hash]string{
	crypto.SHA256: "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
	crypto.SHA384: "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
	crypto.SHA512: "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
}

func pssParameters(options *rsa.PSSOptions) ([]byte, error) {
	salt := options.SaltLength
	if salt == rsa.PSSSaltLengthEqualsHash {
		salt = options.Hash.Size()
	}
	hash, mask := uint(0), uint(0)
	switch options.Hash {
	case crypto.SHA256:
		hash, mask = pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256
	case crypto.SHA384:
		hash, mask = pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384
	case crypto.SHA512:
		hash, mask = pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512
	}
	if hash == 0 || salt <= 0 {
		return nil, fmt.Errorf("signing with RSA-PSS, %s and a salt of %d bytes is not supported", options.Hash, salt)
	}
	return pkcs11.NewPSSParams(hash, mask, uint(salt)), nil
}

// sequence converts r and s, concatenated, to the ASN.1 of package crypto.
func sequence(signature []byte) ([]byte, error) {
	half := len(signature) / 2
	if half == 0 || len(signature)%2 != 0 {
		return nil, errors.New("what the token signed is no ECDSA signature")
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])})
}

// proof is a test signature of the key on the token.
type proof struct {
	digest    []byte
	signature []byte
	options   crypto.SignerOpts
}

// prove has the key sign something random.
func (d *device) prove(s source) (proof, error) {
	p := proof{digest: make([]byte, sha256.Size), options: crypto.SHA256}
	_, _ = rand.Read(p.digest) // never fails
	switch {
	case d.kind == pkcs11.CKK_RSA && s.SigningAlg != "RS256":
		p.options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	case d.kind == kindEdwards:
		p.options = crypto.Hash(0)
	}
	var err error
	p.signature, err = d.sign(p.digest, p.options)
	return p, err
}

// by reports whether it was made with a certificate's key.
func (p proof) by(c *x509.Certificate) bool {
	return p.signature != nil && verifies(certauth.PublicKey(c), p.digest, p.signature, p.options)
}

func verifies(public crypto.PublicKey, digest, signature []byte, options crypto.SignerOpts) bool {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if pss, ok := options.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(public, pss.Hash, digest, signature, pss) == nil
		}
		return rsa.VerifyPKCS1v15(public, options.HashFunc(), digest, signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, signature)
	case ed25519.PublicKey:
		return len(public) == ed25519.PublicKeySize && ed25519.Verify(public, digest, signature)
	}
	return false
}
