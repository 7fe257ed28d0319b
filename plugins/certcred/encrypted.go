package certcred

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // PBKDF2's default function (RFC 8018, A.2)
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins/internal/credfile"
)

// mostIterations bounds the work that a damaged file may ask for; common tools use a few thousand to a million.
const mostIterations = 5_000_000

// password reads password_file. Without one, only what is not encrypted can be read.
func (s source) password() (secret.Value, error) {
	if s.PasswordFile == "" {
		return secret.Value{}, nil
	}
	return credfile.ReadLine("password_file", s.PasswordFile)
}

// isPKCS12 tells a PKCS#12 file, which is DER, from PEM, which is text.
func isPKCS12(data []byte) bool {
	return len(data) > 0 && data[0] == 0x30 && !bytes.Contains(data, []byte("-----BEGIN"))
}

// parsePKCS12 reads the key and the certificates of a PKCS#12 file (RFC 7292). It never passes on
// the parser's errors: they may quote what they read.
func parsePKCS12(data []byte, password secret.Value) (crypto.Signer, []*x509.Certificate, error) {
	key, leaf, others, err := pkcs12.DecodeChain(data, password.Reveal())
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) && password.IsZero():
		return nil, nil, errors.New("it is encrypted; name the file with its password in password_file")
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, nil, errors.New("the password in password_file does not open it")
	case err != nil:
		return nil, nil, errors.New("it is neither PEM nor a sound PKCS#12 file with a certificate and its private key")
	}
	signer, err := usable(key)
	return signer, append([]*x509.Certificate{leaf}, others...), err
}

// pbes2 is the parameters of PBES2, kdf those of PBKDF2 (RFC 8018, A.4 and A.2).
type (
	pbes2 struct {
		KDF    pkix.AlgorithmIdentifier
		Cipher pkix.AlgorithmIdentifier
	}
	kdf struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
)

// decryptKey opens an encrypted PKCS#8 key (RFC 5958, 3) as every current tool writes it: PBES2
// with PBKDF2 and AES-CBC.
func decryptKey(der []byte, password secret.Value) (any, error) {
	if password.IsZero() {
		return nil, errors.New("the private key is encrypted; name the file with its password in password_file")
	}
	block, iv, data, err := openCipher(der, password)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(data))
	defer clear(plain)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > aes.BlockSize {
		return nil, errWrongPassword()
	}
	key, err := x509.ParsePKCS8PrivateKey(plain[:len(plain)-padding])
	if err != nil {
		return nil, errWrongPassword()
	}
	return key, nil
}

func errWrongPassword() error {
	return errors.New("the password in password_file does not open the private key, or the key is damaged")
}

func openCipher(der []byte, password secret.Value) (block cipher.Block, iv, data []byte, err error) {
	var key encryptedKey
	var scheme pbes2
	var derive kdf
	if !decode(der, &key) || !decode(key.Algorithm.Parameters.FullBytes, &scheme) || !decode(scheme.KDF.Parameters.FullBytes, &derive) {
		return nil, nil, nil, errUnknownEncryption()
	}
	size := aesKeySize(scheme.Cipher.Algorithm.String())
	newHash := pseudorandom(derive.PRF.Algorithm.String())
	sound := decode(scheme.Cipher.Parameters.FullBytes, &iv) && len(iv) == aes.BlockSize &&
		len(key.Data) > 0 && len(key.Data)%aes.BlockSize == 0 &&
		derive.Iterations > 0 && derive.Iterations <= mostIterations
	if size == 0 || newHash == nil || !sound || scheme.KDF.Algorithm.String() != "1.2.840.113549.1.5.12" {
		return nil, nil, nil, errUnknownEncryption()
	}
	secretKey, err := pbkdf2.Key(newHash, password.Reveal(), derive.Salt, derive.Iterations, size)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("deriving the private key's key: %w", err)
	}
	block, err = aes.NewCipher(secretKey)
	return block, iv, key.Data, err
}

func decode(der []byte, into any) bool {
	rest, err := asn1.Unmarshal(der, into)
	return err == nil && len(rest) == 0
}

func errUnknownEncryption() error {
	return errors.New("the private key is encrypted in an unknown way or damaged; write it anew with: openssl pkcs8 -topk8 -v2 aes-256-cbc")
}

// aesKeySize is the key's size of an AES-CBC cipher (RFC 8018, B.2.5); 0 for any other.
func aesKeySize(oid string) int {
	switch oid {
	case "2.16.840.1.101.3.4.1.2":
		return 16
	case "2.16.840.1.101.3.4.1.22":
		return 24
	case "2.16.840.1.101.3.4.1.42":
		return 32
	}
	return 0
}

// pseudorandom is the hash of an HMAC (RFC 8018, B.1); nil for an unknown one.
func pseudorandom(oid string) func() hash.Hash {
	switch oid {
	case "", "1.2.840.113549.2.7":
		return sha1.New
	case "1.2.840.113549.2.9":
		return sha256.New
	case "1.2.840.113549.2.10":
		return sha512.New384
	case "1.2.840.113549.2.11":
		return sha512.New
	}
	return nil
}
