package certcred

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
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/credagent/credagent/plugins/internal/credtest"
)

// authority is a root, an intermediate under it, and leaves of several kinds under that.
type authority struct {
	root, intermediate *x509.Certificate
	leaves             map[string]pair // by the name of the key's kind
}

// testAuthority is made once, because RSA keys take their time.
var testAuthority = sync.OnceValue(func() authority {
	rootKey, middleKey := mustKey("P-256"), mustKey("P-256")
	root := issue("root", rootKey, nil, rootKey)
	intermediate := issue("intermediate", middleKey, root, rootKey)
	a := authority{root: root, intermediate: intermediate, leaves: map[string]pair{}}
	for _, kind := range []string{"RSA", "RSA 1024", "P-256", "P-384", "P-521", "Ed25519"} {
		key := mustKey(kind)
		a.leaves[kind] = pair{key: key, chain: []*x509.Certificate{issue("leaf "+kind, key, intermediate, middleKey), intermediate, root}}
	}
	return a
})

func mustKey(kind string) crypto.Signer {
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

// issue makes a certificate; one without an issuer signs itself.
func issue(name string, key crypto.Signer, issuer *x509.Certificate, issuerKey crypto.Signer) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour).Truncate(time.Second),
		IsCA:                  true,
		BasicConstraintsValid: true,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
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

// keyPEM encodes a key in the form that the name of a PEM block stands for.
func keyPEM(t *testing.T, key crypto.Signer, block string) []byte {
	t.Helper()
	var der []byte
	var err error
	switch block {
	case "RSA PRIVATE KEY":
		der = x509.MarshalPKCS1PrivateKey(key.(*rsa.PrivateKey))
	case "EC PRIVATE KEY":
		der, err = x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	default:
		der, err = x509.MarshalPKCS8PrivateKey(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der})
}

func certPEM(certificates ...*x509.Certificate) []byte {
	var all []byte
	for _, c := range certificates {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return all
}

// files writes certificates and key to two files and returns the configuration that names them.
func files(t *testing.T, certificates, key []byte) map[string]any {
	t.Helper()
	return map[string]any{
		"certificate_file": credtest.File(t, "certificate", certificates),
		"private_key_file": credtest.File(t, "key", key),
	}
}

// pairFiles is files for a pair as it comes, PKCS#8.
func pairFiles(t *testing.T, kind string) map[string]any {
	t.Helper()
	p := testAuthority().leaves[kind]
	return files(t, certPEM(p.chain...), keyPEM(t, p.key, "PRIVATE KEY"))
}

func with(config map[string]any, key string, value any) map[string]any {
	config[key] = value
	return config
}

func joined(parts ...[]byte) []byte { return slices.Concat(parts...) }
