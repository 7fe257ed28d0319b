package certauth

import (
	"crypto/fips140"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/credagent/credagent/plugins"
)

// The client authentication methods, by their registered names (RFC 7591, 2; RFC 8705, 2), and the other values of a
// configuration.
const (
	methodPrivateKeyJWT = "private_key_jwt"
	methodTLS           = "tls_client_auth"
	methodSelfSignedTLS = "self_signed_tls_client_auth"
	methodNone          = "none"
	scopeInRequest      = "request"
	audienceOfIssuer    = "issuer"
	thumbprintSHA256    = "sha256"
	thumbprintSHA1      = "sha1"
	thumbprintNone      = "none"
	defaultLifetime     = 5 * time.Minute
	shortestLifetime    = 20 * time.Second
	maxLifetime         = time.Hour
)

// What providers set themselves if a key file contains more than the key.
const (
	NoAuthentication   = methodNone       // the auth_method of requests whose grant is enough
	ScopeInAssertion   = "assertion"      // the scope_in of servers that read a claim
	AudienceOfEndpoint = "token_endpoint" // the default of assertion_audience
)

// Config is the part of a provider's configuration that sets how its certificate authenticates. A provider embeds it
// in its own configuration.
type Config struct {
	AuthMethod        string                  `json:"auth_method"`
	SigningAlg        jose.SignatureAlgorithm `json:"signing_alg"`
	Thumbprint        string                  `json:"thumbprint"`
	KeyID             string                  `json:"key_id"`
	SendX5C           bool                    `json:"send_x5c"`
	AssertionAudience string                  `json:"assertion_audience"`
	AssertionLifetime plugins.Duration        `json:"assertion_lifetime"`
	ScopeIn           string                  `json:"scope_in"`
	SendClientID      bool                    `json:"send_client_id"`

	Grantor `json:"-"`
}

// Grantor is what a provider knows of the assertions that are signed as grants, beside the configuration.
type Grantor struct {
	Issuer          string // the iss claim; "" for the client_id
	SubjectOptional bool   // the server takes an assertion without sub
	// OtherMethods are further values of auth_method, which the provider takes out before it has the
	// configuration checked.
	OtherMethods []string
}

// Default returns the default configuration.
func Default() Config {
	return Config{
		AuthMethod:        methodPrivateKeyJWT,
		Thumbprint:        thumbprintSHA256,
		AssertionAudience: AudienceOfEndpoint,
		AssertionLifetime: plugins.Duration(defaultLifetime),
		ScopeIn:           scopeInRequest,
	}
}

// Check returns the problems of the configuration, each as a [plugins.ConfigError].
func (c Config) Check() error {
	errs := []error{
		oneOf("auth_method", c.AuthMethod, slices.Concat([]string{methodPrivateKeyJWT, methodTLS, methodSelfSignedTLS, methodNone}, c.OtherMethods)...),
		oneOf("scope_in", c.ScopeIn, scopeInRequest, ScopeInAssertion),
		oneOf("thumbprint", c.Thumbprint, thumbprintSHA256, thumbprintSHA1, thumbprintNone),
	}
	if c.Thumbprint == thumbprintSHA1 && fips140.Enforced() {
		errs = append(errs, &plugins.ConfigError{Key: "thumbprint", Message: "is sha1, which GODEBUG=fips140=only forbids; use sha256, or none with key_id"})
	}
	if c.SigningAlg != "" {
		errs = append(errs, oneOf("signing_alg", string(c.SigningAlg), "PS256", "RS256", "ES256", "ES384", "EdDSA"))
	}
	if c.SendClientID && c.AuthMethod != methodNone {
		errs = append(errs, &plugins.ConfigError{Key: "send_client_id", Message: "is for auth_method none: every other method sends it as it needs"})
	}
	if c.AssertionAudience == "" {
		errs = append(errs, &plugins.ConfigError{Key: "assertion_audience", Message: "is empty; it is token_endpoint, issuer, or the audience itself"})
	}
	if life := time.Duration(c.AssertionLifetime); life < shortestLifetime || life > maxLifetime {
		errs = append(errs, &plugins.ConfigError{Key: "assertion_lifetime", Message: "is not between 20s and 1h"})
	}
	return errors.Join(errs...)
}

// RequireNoCertificate returns what of the configuration needs a certificate, where there is a key alone.
func (c Config) RequireNoCertificate() error {
	var errs []error
	if c.AuthMethod == methodTLS || c.AuthMethod == methodSelfSignedTLS {
		errs = append(errs, &plugins.ConfigError{Key: "certificate_file", Message: "is needed with auth_method " + c.AuthMethod})
	}
	if c.Thumbprint == thumbprintSHA1 {
		errs = append(errs, &plugins.ConfigError{Key: "thumbprint", Message: "is a certificate's, and there is none; name the key by key_id"})
	}
	if c.SendX5C {
		errs = append(errs, &plugins.ConfigError{Key: "send_x5c", Message: "sends a certificate, and there is none; name the key by key_id"})
	}
	return errors.Join(errs...)
}

func oneOf(key, value string, known ...string) error {
	for _, k := range known {
		if value == k {
			return nil
		}
	}
	return &plugins.ConfigError{Key: key, Message: "is none of " + strings.Join(known, ", ")}
}
