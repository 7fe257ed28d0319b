package credtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"sync"
	"time"
)

// Authority is a root, an intermediate under it, and leaves of several kinds of key under that.
type Authority struct {
	Root, Intermediate *x509.Certificate
	IntermediateKey    crypto.Signer
	Leaves             map[string]Leaf // by the name of the key's kind
}

// Leaf is a key and its certificates: its own, the intermediate's, the root's.
type Leaf struct {
	Key   crypto.Signer
	Chain []*x509.Certificate
}

// Shared is the authority of the tests. It is created once, because RSA keys are slow to generate.
var Shared = sync.OnceValue(func() Authority {
	rootKey, middleKey := Key("P-256"), Key("P-256")
	root := Issue("root", rootKey, nil, rootKey)
	intermediate := Issue("intermediate", middleKey, root, rootKey)
	a := Authority{Root: root, Intermediate: intermediate, IntermediateKey: middleKey, Leaves: map[string]Leaf{}}
	for _, kind := range []string{"RSA", "RSA 1024", "P-256", "P-384", "P-521", "Ed25519"} {
		key := Key(kind)
		a.Leaves[kind] = Leaf{Key: key, Chain: []*x509.Certificate{Issue("leaf "+kind, key, intermediate, middleKey), intermediate, root}}
	}
	return a
})

// RootPool returns a pool that trusts the shared authority.
func RootPool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(Shared().Root)
	return pool
}

// Key makes a key of a kind.
func Key(kind string) crypto.Signer {
	var key crypto.Signer
	var err error
	switch kind {
	case "RSA":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "RSA 1024":
		key, err = rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // too weak on purpose
	case "P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		panic(err)
	}
	return key
}

// Issue makes a certificate; one without an issuer signs itself.
func Issue(name string, key crypto.Signer, issuer *x509.Certificate, issuerKey crypto.Signer) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour).Truncate(time.Second),
		IsCA:                  true,
		BasicConstraintsValid: true,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return Sign(template, key, issuer, issuerKey)
}

// Sign makes a certificate of a template.
func Sign(template *x509.Certificate, key crypto.Signer, issuer *x509.Certificate, issuerKey crypto.Signer) *x509.Certificate {
	if issuer == nil {
		issuer = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return certificate
}

// CertificatesPEM encodes certificates one after another.
func CertificatesPEM(certificates ...*x509.Certificate) []byte {
	var all []byte
	for _, c := range certificates {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return all
}
