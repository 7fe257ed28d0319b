package certcred

import (
	"crypto"
	"crypto/fips140"
	"crypto/x509"
	"errors"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/credagent/credagent/internal/secret"
)

// parsePKCS12 reads the key and the certificates of a PKCS#12 file (RFC 7292). It never passes on
// the parser's errors: they may quote what they read.
func parsePKCS12(data []byte, password secret.Value) (crypto.Signer, []*x509.Certificate, error) {
	if fips140.Enforced() {
		return nil, nil, errors.New("it is PKCS#12, whose encryption GODEBUG=fips140=only forbids; write it as PEM that only the agent's user may read, with: openssl pkcs12 -nodes -in OLD -out NEW")
	}
	key, leaf, others, err := pkcs12.DecodeChain(data, password.Reveal())
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) && password.IsZero():
		return nil, nil, errors.New("it is encrypted; name the file with its password in password_file")
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, nil, errors.New("the password in password_file does not open it")
	case err != nil:
		return nil, nil, errors.New("it is neither PEM nor a PKCS#12 file that credagent can read, with certificates and one private key; if it is PKCS#12, write it as PEM with: openssl pkcs12 -in OLD -out NEW")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, errors.New("its private key cannot sign")
	}
	return signer, append([]*x509.Certificate{leaf}, others...), nil
}
