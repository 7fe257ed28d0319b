package certcred

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins/internal/certauth"
	"github.com/credagent/credagent/plugins/internal/credfile"
)

// loadPair reads the files and checks that key and certificate belong together: a rotation that is
// half written must not reach the server.
func (s source) loadPair() (certauth.Pair, error) {
	password, err := s.password()
	if err != nil {
		return certauth.Pair{}, err
	}
	data, err := credfile.Read("certificate_file", s.CertificateFile)
	if err != nil {
		return certauth.Pair{}, err
	}
	defer clear(data)
	key, chain, err := s.parse(data, password)
	if err != nil {
		return certauth.Pair{}, err
	}
	pair, err := certauth.NewPair(key, chain)
	if err != nil {
		return certauth.Pair{}, fmt.Errorf("reading certificate_file %q: %w", s.CertificateFile, err)
	}
	return pair, nil
}

// password reads password_file, or the variable that password_env names. Without one, only what is not encrypted can be read.
func (s source) password() (secret.Value, error) {
	if s.PasswordEnv != "" {
		value := os.Getenv(s.PasswordEnv)
		if value == "" {
			// Without its name: people put the password in place of the name.
			return secret.Value{}, errors.New("reading password_env: the environment variable that it names is not set or empty")
		}
		return secret.New(value), nil
	}
	if s.PasswordFile == "" {
		return secret.Value{}, nil
	}
	return credfile.ReadLine("password_file", s.PasswordFile)
}

// parse reads what certificate_file holds, and the private key from its own file if there is one.
func (s source) parse(data []byte, password secret.Value) (key crypto.Signer, chain []*x509.Certificate, err error) {
	bundle := isDER(data)
	switch {
	case bundle && s.PrivateKeyFile != "" && !isCertificate(data):
		err = errors.New("it is PKCS#12, which holds the private key too; leave private_key_file out")
	case bundle:
		key, chain, err = parsePKCS12(data, password)
	default:
		chain, err = certauth.ParseCertificates(data)
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

func parsePrivateKey(data []byte, password secret.Value) (crypto.Signer, error) {
	for block, rest := certauth.NextBlock(data); block != nil; block, rest = certauth.NextBlock(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return parseKeyBlock(block, password)
		}
	}
	if isDER(data) {
		return nil, errors.New("it is not PEM but DER; write it anew with: openssl pkey -inform DER -in OLD -out NEW")
	}
	return nil, errors.New("it holds no PEM private key; name the file that does in private_key_file")
}

// parseKeyBlock never passes on the parsers' errors: they may quote what they read.
func parseKeyBlock(block *pem.Block, password secret.Value) (crypto.Signer, error) {
	defer clear(block.Bytes)
	var key crypto.Signer
	var err error
	switch {
	case block.Headers["Proc-Type"] != "":
		return decryptPEM(block, password)
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return decryptPKCS8(block.Bytes, password)
	case block.Type == "OPENSSH PRIVATE KEY":
		return nil, errors.New("the private key is in OpenSSH's own form; write it anew, in place, with: ssh-keygen -p -m PKCS8 -f FILE")
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return certauth.ParsePKCS8(block.Bytes)
	}
	if err != nil {
		return nil, certauth.ErrUnknownKey()
	}
	return key, nil
}

// isDER tells DER, such as a PKCS#12 file, from PEM, which is text.
func isDER(data []byte) bool {
	return len(data) > 0 && data[0] == 0x30 && !bytes.Contains(data, []byte("-----BEGIN"))
}

func isCertificate(der []byte) bool {
	_, err := x509.ParseCertificate(der)
	return err == nil
}
