package store

import (
	"bytes"
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/credagent/credagent/internal/atomicfile"
	"github.com/credagent/credagent/internal/host"
	"github.com/credagent/credagent/internal/secret"
)

const (
	keyPrefix  = "AGE-SECRET-KEY-1"
	maxKeyFile = 64 << 10 // bytes
)

// key encrypts and decrypts records.
type key struct{ identity *age.X25519Identity }

// NewKey creates a key and returns the content of its file, in the form of age-keygen.
func NewKey(created time.Time) (secret.Value, error) {
	if fips140.Enforced() {
		return secret.Value{}, fmt.Errorf("making a state key: %w", errForbidden())
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return secret.Value{}, fmt.Errorf("making a state key: %w", err)
	}
	return secret.New(fmt.Sprintf("# created: %s\n# public key: %s\n%s\n",
		created.Format(time.RFC3339), identity.Recipient(), identity)), nil
}

// readKey reads the file of a key. Links are followed, because mounted secrets are links.
func readKey(file string) (key, error) {
	opened, err := host.File{Path: file, Owner: host.NoOwner, Links: true}.Open()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return key{}, fmt.Errorf("%w; make one: (umask 077; credagent keygen > %q)", atomicfile.Cause(err), file)
	case err != nil:
		return key{}, explain(err)
	}
	defer opened.Close()
	info, err := opened.Stat()
	if err != nil {
		return key{}, explain(err)
	}
	if err := checkKeyFile(file, info); err != nil {
		return key{}, err
	}
	data, err := io.ReadAll(io.LimitReader(opened, maxKeyFile+1))
	if err != nil {
		return key{}, explain(err)
	}
	defer clear(data)
	if fips140.Enforced() {
		return key{}, errForbidden()
	}
	return parseKey(data)
}

// errForbidden explains why there is no state in FIPS 140-only mode: no age recipient would help, because the records
// themselves are encrypted with ChaCha20-Poly1305 (C2SP age, STREAM).
func errForbidden() error {
	return errors.New("GODEBUG=fips140=only forbids X25519 and ChaCha20-Poly1305, with which age encrypts state; leave state out, or set fips140=on")
}

func explain(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; let the agent's user (uid %d) read it", atomicfile.Cause(err), os.Geteuid())
	}
	return atomicfile.Cause(err)
}

// parseKey reads one key and any number of comments. age's own errors are not passed on, because they may quote their
// input.
func parseKey(data []byte) (key, error) {
	if len(data) > maxKeyFile {
		return key{}, errors.New("it is larger than 64 KiB, so it is not a key")
	}
	found, number := key{}, 0
	for line := range bytes.Lines(data) {
		number++
		text := strings.TrimSpace(string(line))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		identity, err := age.ParseX25519Identity(text)
		switch {
		case strings.HasPrefix(text, "age1"):
			return key{}, fmt.Errorf("line %d is a public key; the file must hold the secret one, which begins with %s", number, keyPrefix)
		case err != nil || !strings.HasPrefix(text, keyPrefix):
			return key{}, fmt.Errorf("line %d is not an X25519 key, which begins with %s, as credagent keygen prints it", number, keyPrefix)
		case found.identity != nil:
			return key{}, fmt.Errorf("line %d is a second key; keep one", number)
		}
		found.identity = identity
	}
	if found.identity == nil {
		return key{}, errors.New("it holds no key; make one with credagent keygen")
	}
	return found, nil
}

var (
	errEmpty   = errors.New("it is empty")
	errDamaged = errors.New("it is damaged")
	errKey     = errors.New("this key does not open it: it was written with another one, or is damaged")
)

func (k key) encrypt(plain []byte) ([]byte, error) {
	var sealed bytes.Buffer
	writer, err := age.Encrypt(&sealed, k.identity.Recipient())
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	if _, err := writer.Write(plain); err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	return sealed.Bytes(), nil
}

// decrypt describes errors in its own words, because age's errors quote their input.
func (k key) decrypt(sealed []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, errEmpty
	}
	reader, err := age.Decrypt(bytes.NewReader(sealed), k.identity)
	var other *age.NoIdentityMatchError
	switch {
	case errors.As(err, &other):
		return nil, errKey
	case err != nil:
		return nil, errDamaged
	}
	plain, err := io.ReadAll(reader)
	if err != nil {
		clear(plain)
		return nil, errDamaged
	}
	return plain, nil
}
