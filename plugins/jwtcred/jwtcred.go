// Package jwtcred is the credential provider for assertions that something else makes: a
// Kubernetes projected service-account token, a SPIFFE JWT-SVID (RFC 7523, 2.2). The file is read
// afresh for every request, because whoever writes it replaces it long before it expires.
package jwtcred

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/keyfile"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/credfile"
)

// Name is what a configuration calls this provider.
const Name = "jwtcred"

// AssertionType is the client_assertion_type of a JWT (RFC 7523, 2.2).
const AssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// leeway is how far the host's clock may be ahead before a still valid assertion is held back.
const leeway = time.Minute

// Provider implements [plugins.Provider].
type Provider struct{}

// source is also the configuration's form.
type source struct {
	AssertionFile string `json:"assertion_file"`
}

// Open implements [plugins.Provider].
func (Provider) Open(config json.RawMessage) (plugins.Source, error) {
	var s source
	err := plugins.DecodeConfig(config, &s)
	if s.AssertionFile == "" {
		err = errors.Join(err, &plugins.ConfigError{Key: "assertion_file", Message: "is needed"})
	}
	if err := errors.Join(err, plugins.AbsolutePath("assertion_file", s.AssertionFile)); err != nil {
		return nil, err
	}
	return s, nil
}

// Files implements [plugins.Source].
func (s source) Files() []string { return []string{s.AssertionFile} }

// Load implements [plugins.Source].
func (s source) Load(context.Context) (plugins.Credential, error) {
	data, err := credfile.Read("assertion_file", s.AssertionFile)
	if err != nil {
		return plugins.Credential{}, err
	}
	defer clear(data)
	assertion := secret.New(string(bytes.Trim(keyfile.Text(data), " \t\r\n\x00")))
	read, err := readClaims(assertion)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("reading assertion_file %q: %w", s.AssertionFile, err)
	}
	if !read.expires.IsZero() && time.Now().After(read.expires.Add(leeway)) {
		return plugins.Credential{}, fmt.Errorf("reading assertion_file %q: it expired at %s; whatever writes it has stopped", s.AssertionFile, read.expires.UTC().Format(time.RFC3339))
	}
	return plugins.Credential{
		NotBefore: read.begins(),
		NotAfter:  read.expires,
		Identity:  read.subject,
		Authenticate: func(r *plugins.Request) error {
			r.Form.Set("client_assertion_type", AssertionType)
			r.Form.Set("client_assertion", assertion.Reveal())
			return nil
		},
	}, nil
}

// begins is when the assertion's life began, as far as it says.
func (c claims) begins() time.Time {
	if c.issuedAt.IsZero() {
		return c.notBefore
	}
	return c.issuedAt
}

// claims are what is shown to people, and used not to send what is known to be too old.
type claims struct {
	subject                      string
	issuedAt, notBefore, expires time.Time // zero where it does not say, or says what is no instant
}

// readClaims reads the claims without verifying them: whether an assertion is good, and which
// algorithms are, is the server's to judge. But what is not an assertion at all, such as a key in its
// place, must not reach the server.
func readClaims(assertion secret.Value) (claims, error) {
	parts := strings.Split(assertion.Reveal(), ".")
	if len(parts) != signedParts && len(parts) != encryptedParts {
		return claims{}, errNoJWT()
	}
	for i, part := range parts {
		// Of an encrypted one, the key's part may be empty (RFC 7516, 5.1).
		if !isBase64(part) || part == "" && (len(parts) != encryptedParts || i != 1) {
			return claims{}, errNoJWT()
		}
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	if !decode(parts[0], &header) || header.Algorithm == "" || strings.EqualFold(header.Algorithm, "none") {
		return claims{}, errNoJWT()
	}
	if len(parts) == encryptedParts {
		return claims{}, nil // its claims are for the server alone
	}
	var payload struct {
		Subject   any `json:"sub"`
		Expiry    any `json:"exp"`
		IssuedAt  any `json:"iat"`
		NotBefore any `json:"nbf"`
	}
	if !decode(parts[1], &payload) {
		return claims{}, errNoJWT()
	}
	subject, _ := payload.Subject.(string)
	return claims{subject, instant(payload.IssuedAt), instant(payload.NotBefore), instant(payload.Expiry)}, nil
}

// The parts of a JWT that is signed (RFC 7515, 7.1) and of one that is encrypted (RFC 7516, 7.1).
const (
	signedParts    = 3
	encryptedParts = 5
)

func errNoJWT() error { return errors.New("it is not a signed JWT") }

func isBase64(part string) bool {
	_, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && !strings.ContainsAny(part, "\r\n")
}

// decode reads a JSON object out of a part.
func decode(part string, into any) bool {
	data, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(data, into) == nil && len(data) > 0 && bytes.HasPrefix(bytes.TrimSpace(data), []byte("{"))
}

// instant reads a NumericDate (RFC 7519, 2), also one in a string, as some issuers write it.
func instant(claim any) time.Time {
	seconds, ok := claim.(float64)
	if text, inString := claim.(string); inString {
		parsed, err := strconv.ParseFloat(text, 64)
		seconds, ok = parsed, err == nil
	}
	if !ok || !(seconds > 0 && seconds < latest) {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// latest is the end of the year 9999, the last that a date can express.
const latest = 253402300800
