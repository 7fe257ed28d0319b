package certcred

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // old tools encrypt keys with it
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // PBKDF2's default function (RFC 8018, A.2)
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"hash"

	"golang.org/x/crypto/scrypt"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins/internal/certauth"
)

const (
	// maxIterations and maxMemory limit the work that a damaged file can cause. Common tools
	// use a few thousand to a million iterations, and 16 MiB.
	maxIterations = 5_000_000
	maxMemory     = 256 << 20
)

// The schemes, by their numbers (RFC 8018, A.4 and A.2; RFC 7914, 7).
const (
	idPBES2  = "1.2.840.113549.1.5.13"
	idPBKDF2 = "1.2.840.113549.1.5.12"
	idScrypt = "1.3.6.1.4.1.11591.4.11"
)

// encryptedKey is an encrypted PKCS#8 key (RFC 5958, 3); the other types are its parameters.
type (
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2 struct {
		KDF    pkix.AlgorithmIdentifier
		Cipher pkix.AlgorithmIdentifier
	}
	pbkdf2Parameters struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	scryptParameters struct {
		Salt      []byte
		N, R, P   int
		KeyLength int `asn1:"optional"`
	}
)

// decryptPKCS8 decrypts a PKCS#8 key as every current tool writes it: PBES2 with PBKDF2 or
// scrypt, and AES-CBC or triple DES.
func decryptPKCS8(der []byte, password secret.Value) (crypto.Signer, error) {
	if password.IsZero() {
		return nil, errNoPassword()
	}
	var key encryptedKey
	if !decode(der, &key) {
		return nil, errors.New("the private key is damaged")
	}
	block, iv, err := key.cipher(password)
	if err != nil {
		return nil, err
	}
	plain, err := decrypt(block, iv, key.Data)
	defer clear(plain)
	if err != nil {
		return nil, err
	}
	signer, err := certauth.ParsePKCS8(plain)
	if err != nil {
		return nil, errWrongPassword()
	}
	return signer, nil
}

// decrypt decrypts CBC with padding (RFC 8018, 6.1.1).
func decrypt(block cipher.Block, iv, data []byte) ([]byte, error) {
	size := block.BlockSize()
	if len(iv) != size || len(data) == 0 || len(data)%size != 0 {
		return nil, errors.New("the private key is damaged")
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > size {
		clear(plain)
		return nil, errWrongPassword()
	}
	return plain[:len(plain)-padding], nil
}

// cipher returns the cipher that encrypts the key, with its key derived from the password.
func (k encryptedKey) cipher(password secret.Value) (block cipher.Block, iv []byte, err error) {
	var scheme pbes2
	if k.Algorithm.Algorithm.String() != idPBES2 || !decode(k.Algorithm.Parameters.FullBytes, &scheme) {
		return nil, nil, errUnknownEncryption()
	}
	size, newBlock := cipherOf(scheme.Cipher.Algorithm.String())
	if newBlock == nil || !decode(scheme.Cipher.Parameters.FullBytes, &iv) {
		return nil, nil, errUnknownEncryption()
	}
	derived, err := derive(scheme.KDF, password, size)
	if err != nil {
		return nil, nil, err
	}
	defer clear(derived)
	if block, err = newBlock(derived); err != nil {
		return nil, nil, errUnknownEncryption()
	}
	return block, iv, nil
}

func derive(kdf pkix.AlgorithmIdentifier, password secret.Value, size int) ([]byte, error) {
	var slow pbkdf2Parameters
	var large scryptParameters
	parameters := kdf.Parameters.FullBytes
	switch id := kdf.Algorithm.String(); {
	case id == idPBKDF2 && decode(parameters, &slow):
		newHash := pseudorandom(slow.PRF.Algorithm.String())
		if newHash == nil || slow.Iterations < 1 || slow.Iterations > maxIterations {
			return nil, errUnknownEncryption()
		}
		derived, err := pbkdf2.Key(newHash, password.Reveal(), slow.Salt, slow.Iterations, size)
		if err != nil {
			return nil, errUnknownEncryption()
		}
		return derived, nil
	case id == idScrypt && !fips140.Enforced() && decode(parameters, &large) && large.bounded():
		derived, err := scrypt.Key([]byte(password.Reveal()), large.Salt, large.N, large.R, large.P, size)
		if err == nil {
			return derived, nil
		}
	}
	return nil, errUnknownEncryption()
}

func (s scryptParameters) bounded() bool {
	const most = maxMemory / 128 // bytes of a block (RFC 7914, 2)
	return s.N > 0 && s.N <= most && s.R > 0 && s.R <= most/s.N && s.P > 0 && s.P <= 16
}

// decryptPEM decrypts a key in an encrypted PEM block (RFC 1421, 4.6.1.1), as OpenSSL wrote keys before PKCS#8, and
// still does on request.
func decryptPEM(block *pem.Block, password secret.Value) (crypto.Signer, error) {
	if password.IsZero() {
		return nil, errNoPassword()
	}
	if fips140.Enforced() { // the encryption key is derived with MD5
		return nil, errUnknownEncryption()
	}
	// These functions are deprecated because they are an oracle for an attacker who supplies files and sees the
	// errors. Here the file is the reader's own.
	//lint:ignore SA1019 see above
	plain, err := x509.DecryptPEMBlock(block, []byte(password.Reveal())) //nolint:staticcheck // see above
	switch {
	case errors.Is(err, x509.IncorrectPasswordError):
		return nil, errWrongPassword()
	case err != nil:
		return nil, errUnknownEncryption()
	}
	key, err := parseKeyBlock(&pem.Block{Type: block.Type, Bytes: plain}, password)
	if err != nil {
		return nil, errWrongPassword()
	}
	return key, nil
}

func decode(der []byte, into any) bool {
	rest, err := asn1.Unmarshal(der, into)
	return err == nil && len(rest) == 0
}

func errNoPassword() error {
	return errors.New("the private key is encrypted; name the file with its password in password_file")
}

func errWrongPassword() error {
	return errors.New("the password in password_file does not open the private key, or the key is damaged")
}

func errUnknownEncryption() error {
	if fips140.Enforced() {
		return errors.New("GODEBUG=fips140=only forbids the way in which the private key is encrypted; write it anew, in a file that only the agent's user may read, with: openssl pkey -in OLD -out NEW")
	}
	return errors.New("the private key is encrypted in a way that credagent does not know, or damaged; write it anew with: openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW")
}

// cipherOf returns a cipher's key size and constructor (RFC 8018, B.2); nil if it is unknown.
func cipherOf(oid string) (keySize int, newBlock func(key []byte) (cipher.Block, error)) {
	switch oid {
	case "2.16.840.1.101.3.4.1.2":
		return 16, aes.NewCipher
	case "2.16.840.1.101.3.4.1.22":
		return 24, aes.NewCipher
	case "2.16.840.1.101.3.4.1.42":
		return 32, aes.NewCipher
	case "1.2.840.113549.3.7":
		if fips140.Enforced() {
			return 0, nil
		}
		return 24, des.NewTripleDESCipher
	}
	return 0, nil
}

// pseudorandom returns the hash of an HMAC (RFC 8018, B.1); nil if it is unknown.
func pseudorandom(oid string) func() hash.Hash {
	switch oid {
	case "", "1.2.840.113549.2.7":
		return sha1.New
	case "1.2.840.113549.2.8":
		return sha256.New224
	case "1.2.840.113549.2.9":
		return sha256.New
	case "1.2.840.113549.2.10":
		return sha512.New384
	case "1.2.840.113549.2.11":
		return sha512.New
	}
	return nil
}
