package setup

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Every server accepts a key of this kind, and a certificate of this validity.
const (
	keyBits         = 3072
	certificateLife = 365 * 24 * time.Hour
	clockSlack      = 5 * time.Minute // for clocks that are behind
)

// newCertificate creates a self-signed certificate and its key, as PEM.
func newCertificate(name string) (certificate, key []byte, err error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: now.Add(-clockSlack), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("making a certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

// publicKey returns a certificate's public key as a JSON Web Key (RFC 7517) with this id.
func publicKey(certificate []byte, keyID string) (string, error) {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return "", errors.New("it is no PEM")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", err
	}
	public, ok := parsed.PublicKey.(*rsa.PublicKey)
	if !ok {
		return "", errors.New("its key is not RSA: write its JSON Web Key by hand")
	}
	encode := base64.RawURLEncoding.EncodeToString
	text, err := json.Marshal(struct {
		Type      string `json:"kty"`
		Use       string `json:"use"`
		Algorithm string `json:"alg"`
		ID        string `json:"kid"`
		N         string `json:"n"`
		E         string `json:"e"`
	}{"RSA", "sig", "RS256", keyID, encode(public.N.Bytes()), encode(big.NewInt(int64(public.E)).Bytes())})
	return string(text), err
}
