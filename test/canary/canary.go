// Package canary finds secrets where they must not be: in the memory of a process, in a log, in
// whatever the agent shows.
//
// It knows the forms that a secret takes on its way, such as Base64 in a header or the limbs of a
// big number in memory, and promises to find each of them wherever it stands whole. Caveat: what is
// encrypted, compressed or in pieces it does not see. Only tests import it.
package canary

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// shortest is the length in bytes from which a form is looked for: a shorter one would be found by
// chance.
const shortest = 12

// Secret is something that must not be found.
type Secret struct {
	Name  string
	forms []form
}

// form is one way to write a secret.
type form struct {
	name string
	text []byte
}

// Text is a secret of text, such as a client secret or a signature: as it is, and as headers, forms,
// JSON and pages hold it.
func Text(name, text string) Secret {
	s := Secret{Name: name}
	s.add("as it is", []byte(text))
	s.add("in a form", []byte(url.QueryEscape(text)))
	s.add("in a URL", []byte(url.PathEscape(text)))
	if quoted, err := json.Marshal(text); err == nil {
		s.add("in JSON", bytes.Trim(quoted, `"`))
	}
	s.add("quoted", []byte(strings.Trim(strconv.Quote(text), `"`)))
	s.add("in HTML", []byte(html.EscapeString(text)))
	s.encoded([]byte(text))
	return s
}

// encoded adds the forms that bytes have in Base64 and in hexadecimal.
func (s *Secret) encoded(data []byte) {
	for before := range 3 {
		s.add("in Base64", base64Within(base64.StdEncoding, before, data))
		s.add("in URLs' Base64", base64Within(base64.URLEncoding, before, data))
	}
	s.add("in hexadecimal", []byte(hex.EncodeToString(data)))
	s.add("in hexadecimal", []byte(strings.ToUpper(hex.EncodeToString(data))))
}

// base64Within is the part of the encoding that depends on data alone, where so many bytes modulo
// three come before it and anything may follow.
func base64Within(encoding *base64.Encoding, before int, data []byte) []byte {
	const bits = 6
	encoded := encoding.EncodeToString(slices.Concat(make([]byte, before), data))
	first := (before*8 + bits - 1) / bits
	last := (before + len(data)) * 8 / bits
	return []byte(encoded[min(first, last):last])
}

// Key is a private key, from its PEM: the lines of the file, what they encode, and each number that
// is as good as the key.
func Key(name string, keyPEM []byte) (Secret, error) {
	s := Secret{Name: name}
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return s, fmt.Errorf("reading %s: it is not PEM", name)
	}
	for line := range strings.Lines(string(keyPEM)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") {
			s.add("a line of PEM", []byte(line))
		}
	}
	s.add("DER", block.Bytes)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return s, fmt.Errorf("reading %s: %w", name, err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		s.number("private exponent", key.D)
		for _, prime := range key.Primes {
			s.number("prime", prime)
		}
		s.number("private exponent modulo p-1", key.Precomputed.Dp)
		s.number("private exponent modulo q-1", key.Precomputed.Dq)
	case *ecdsa.PrivateKey:
		scalar, err := key.Bytes()
		if err != nil {
			return s, fmt.Errorf("reading %s: %w", name, err)
		}
		s.number("scalar", new(big.Int).SetBytes(scalar))
		s.encoded(scalar)
	case ed25519.PrivateKey:
		s.add("seed", key.Seed())
		s.encoded(key.Seed())
	default:
		return s, fmt.Errorf("reading %s: it is of an unknown kind", name)
	}
	return s, nil
}

// number adds a number as files hold it, and as a big number lies in memory.
func (s *Secret) number(name string, n *big.Int) {
	data := n.Bytes()
	s.add(name, data)
	reversed := slices.Clone(data)
	slices.Reverse(reversed)
	s.add(name+", backwards", reversed)
}

func (s *Secret) add(name string, text []byte) {
	known := slices.ContainsFunc(s.forms, func(f form) bool { return bytes.Equal(f.text, text) })
	if len(text) >= shortest && !known {
		s.forms = append(s.forms, form{name, text})
	}
}

// Find returns what of the secrets is in the data: the name of each and the form that it has there.
func Find(data []byte, secrets ...Secret) []string {
	var found []string
	for _, s := range secrets {
		for _, f := range s.forms {
			hit := s.Name + ", " + f.name
			if bytes.Contains(data, f.text) && !slices.Contains(found, hit) {
				found = append(found, hit)
			}
		}
	}
	return found
}
