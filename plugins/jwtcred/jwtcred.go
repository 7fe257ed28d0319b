// Package jwtcred is the credential provider for assertions that something else makes: a
// Kubernetes projected service-account token, a SPIFFE JWT-SVID (RFC 7523, 2.2). The file is read
// afresh for every request, because whoever writes it replaces it long before it expires.
package jwtcred

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

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
	assertion := secret.New(string(bytes.TrimSpace(data)))
	claims, err := readClaims(assertion)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("reading assertion_file %q: %w", s.AssertionFile, err)
	}
	notAfter := claims.Expiry.Time()
	if claims.Expiry != nil && time.Now().After(notAfter.Add(leeway)) {
		return plugins.Credential{}, fmt.Errorf("reading assertion_file %q: it expired at %s; whatever writes it has stopped", s.AssertionFile, notAfter.UTC().Format(time.RFC3339))
	}
	return plugins.Credential{
		NotBefore: issuedAt(claims),
		NotAfter:  notAfter,
		Identity:  claims.Subject,
		Authenticate: func(r *plugins.Request) error {
			r.Form.Set("client_assertion_type", AssertionType)
			r.Form.Set("client_assertion", assertion.Reveal())
			return nil
		},
	}, nil
}

// issuedAt is when the assertion's life began, as far as it says.
func issuedAt(claims jwt.Claims) time.Time {
	if claims.IssuedAt == nil {
		return claims.NotBefore.Time()
	}
	return claims.IssuedAt.Time()
}

// readClaims reads the claims without verifying them: that is the server's part. What it reads is
// only shown to people, and used not to send what is known to be too old.
func readClaims(assertion secret.Value) (jwt.Claims, error) {
	parsed, err := jwt.ParseSigned(assertion.Reveal(), []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
		jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	})
	var claims jwt.Claims
	if err != nil || parsed.UnsafeClaimsWithoutVerification(&claims) != nil {
		return jwt.Claims{}, errors.New("it is not a signed JWT")
	}
	for name, date := range map[string]*jwt.NumericDate{"exp": claims.Expiry, "iat": claims.IssuedAt, "nbf": claims.NotBefore} {
		if date != nil && (*date < 0 || int64(*date) > math.MaxInt32*100) {
			return jwt.Claims{}, fmt.Errorf("its %s claim is out of range", name)
		}
	}
	return claims, nil
}
