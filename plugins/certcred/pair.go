package certcred

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/credagent/credagent/internal/keyfile"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins/internal/certauth"
	"github.com/credagent/credagent/plugins/internal/credfile"
)

// loadPair reads the files and checks that key and certificate match: a half-written rotation must not reach the
// server.
func (s source) loadPair() (certauth.Pair, error) {
	password, errPassword := s.password()
	if errPassword != nil && !errors.Is(errPassword, credfile.ErrEmpty) {
		return certauth.Pair{}, errPassword
	}
	if s.CertificateFile == "" {
		return s.loadBare(password, errPassword)
	}
	data, err := credfile.Read("certificate_file", s.CertificateFile)
	if err != nil {
		return certauth.Pair{}, err
	}
	defer clear(data)
	key, chain, err := s.parse(data, password)
	if errPassword != nil && (err != nil || bytes.Contains(data, []byte("-----BEGIN"))) {
		return certauth.Pair{}, errPassword // only PKCS#12 has an empty password
	}
	if err != nil {
		return certauth.Pair{}, err
	}
	pair, err := certauth.NewPair(key, chain)
	if err != nil {
		return certauth.Pair{}, fmt.Errorf("reading certificate_file %q: %w", s.CertificateFile, err)
	}
	return pair, nil
}

// loadBare reads a key that is registered at the server without a certificate.
func (s source) loadBare(password secret.Value, errPassword error) (certauth.Pair, error) {
	if errPassword != nil {
		return certauth.Pair{}, errPassword
	}
	key, err := s.loadKey(keyfile.Content{}, password, nil)
	if err != nil {
		return certauth.Pair{}, err
	}
	pair, err := certauth.NewKey(key)
	if err != nil {
		return certauth.Pair{}, fmt.Errorf("reading private_key_file %q: %w", s.PrivateKeyFile, err)
	}
	return pair, nil
}

// password reads password_file, or the variable that password_env names. Without a password, only unencrypted keys
// can be read.
func (s source) password() (secret.Value, error) {
	if s.PasswordEnv != "" {
		value := os.Getenv(s.PasswordEnv)
		if value == "" {
			// Do not show the name: people put the password in its place.
			return secret.Value{}, errors.New("reading password_env: the environment variable that it names is not set or empty")
		}
		return secret.New(value), nil
	}
	if s.PasswordFile == "" {
		return secret.Value{}, nil
	}
	return credfile.ReadLine("password_file", s.PasswordFile)
}

// parse reads the content of certificate_file, and the private key from its own file if there is one.
func (s source) parse(data []byte, password secret.Value) (key crypto.Signer, chain []*x509.Certificate, err error) {
	content := keyfile.Read(data)
	defer content.Clear()
	switch {
	case content.DER == nil:
		chain, err = content.Certificates()
	case content.Odd() != "":
		err = errors.New("it holds no PEM certificate" + content.Odd())
	case s.PrivateKeyFile != "":
		err = errors.New("it is PKCS#12, which holds the private key too; leave private_key_file out")
	default:
		key, chain, err = parsePKCS12(content.DER, password)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading certificate_file %q: %w", s.CertificateFile, err)
	}
	if key != nil {
		return key, chain, nil
	}
	key, err = s.loadKey(content, password, chain)
	return key, chain, err
}

func (s source) loadKey(beside keyfile.Content, password secret.Value, chain []*x509.Certificate) (crypto.Signer, error) {
	name, path, content := "certificate_file", s.CertificateFile, beside
	if s.PrivateKeyFile != "" {
		name, path = "private_key_file", s.PrivateKeyFile
		data, err := credfile.Read(name, path)
		if err != nil {
			return nil, err
		}
		defer clear(data)
		content = keyfile.Read(data)
		defer content.Clear()
	}
	key, err := parsePrivateKey(content, password, chain)
	if err != nil {
		return nil, fmt.Errorf("reading %s %q: %w", name, path, err)
	}
	return key, nil
}

// parsePrivateKey reads the private key. Of several, it is the one that a certificate of the chain is for, else the
// first.
func parsePrivateKey(content keyfile.Content, password secret.Value, chain []*x509.Certificate) (crypto.Signer, error) {
	var keys []crypto.Signer
	var errs []error
	for _, block := range content.Blocks {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			key, err := parseKeyBlock(block, password)
			keys, errs = append(keys, key), append(errs, err)
		}
	}
	for _, authority := range []bool{false, true} { // an authority's key may be in the file too
		for i, key := range keys {
			if errs[i] == nil && slices.ContainsFunc(chain, func(c *x509.Certificate) bool {
				return c.IsCA == authority && certauth.Certifies(c, key.Public())
			}) {
				return key, nil
			}
		}
	}
	if len(keys) > 0 {
		return keys[0], errs[0]
	}
	if content.DER != nil && content.Odd() == "" {
		return nil, errors.New("it is neither a private key nor a certificate; if it is PKCS#12, which holds both, name it in certificate_file")
	}
	if content.Odd() != "" {
		return nil, errors.New("it holds no PEM private key" + content.Odd())
	}
	return nil, errors.New("it holds no PEM private key; name the file that does in private_key_file")
}

// parseKeyBlock never passes on the parsers' errors: they may quote what they read.
func parseKeyBlock(block *pem.Block, password secret.Value) (crypto.Signer, error) {
	defer clear(block.Bytes)
	switch {
	case block.Headers["Proc-Type"] != "":
		return decryptPEM(block, password)
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return decryptPKCS8(block.Bytes, password)
	case block.Type == "OPENSSH PRIVATE KEY":
		return nil, errors.New("the private key is in OpenSSH's own form; write it anew, in place, with: ssh-keygen -p -m PKCS8 -f FILE")
	case strings.HasPrefix(block.Type, "PGP "):
		return nil, errors.New("the private key is PGP's, which no certificate has; name the file with the certificate's key")
	}
	return plainKey(block.Bytes)
}

// plainKey reads an unencrypted key. Its PEM label is unreliable: tools write PKCS#1 under the label of PKCS#8, and
// vice versa.
func plainKey(der []byte) (crypto.Signer, error) {
	key, err := certauth.ParsePKCS8(der)
	if err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	if bytes.Contains(der, explicitCurve) {
		return nil, errors.New("the private key gives its curve by numbers and not by name; write it anew with: openssl pkey -ec_param_enc named_curve -in OLD -out NEW")
	}
	return nil, err
}

// explicitCurve is id-prime-field (X9.62), which appears only in a key with explicit curve parameters.
var explicitCurve = []byte{0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x01, 0x01}
