package certcred

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/credagent/credagent/plugins/internal/credtest"
)

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
	leaf := credtest.Shared().Leaves[kind]
	return files(t, certPEM(leaf.Chain...), keyPEM(t, leaf.Key, "PRIVATE KEY"))
}

func certPEM(certificates ...*x509.Certificate) []byte {
	return credtest.CertificatesPEM(certificates...)
}

func with(config map[string]any, key string, value any) map[string]any {
	config[key] = value
	return config
}

func joined(parts ...[]byte) []byte { return slices.Concat(parts...) }
