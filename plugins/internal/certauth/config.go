package certauth

import (
	"crypto/fips140"
	"errors"
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
	audienceOfEndpoint  = "token_endpoint"
	audienceOfIssuer    = "issuer"
	thumbprintSHA256    = "sha256"
	thumbprintSHA1      = "sha1"
	thumbprintNone      = "none"
	defaultLifetime     = 5 * time.Minute
	shortestLifetime    = time.Minute
	maxLifetime         = time.Hour
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
}

// Default returns the default configuration.
func Default() Config {
	return Config{
		AuthMethod:        methodPrivateKeyJWT,
		Thumbprint:        thumbprintSHA256,
		AssertionAudience: audienceOfEndpoint,
		AssertionLifetime: plugins.Duration(defaultLifetime),
	}
}

// Check returns the problems of the configuration, each as a [plugins.ConfigError].
func (c Config) Check() error {
	errs := []error{
		oneOf("auth_method", c.AuthMethod, methodPrivateKeyJWT, methodTLS, methodSelfSignedTLS),
		oneOf("thumbprint", c.Thumbprint, thumbprintSHA256, thumbprintSHA1, thumbprintNone),
	}
	if c.Thumbprint == thumbprintSHA1 && fips140.Enforced() {
		errs = append(errs, &plugins.ConfigError{Key: "thumbprint", Message: "is sha1, which GODEBUG=fips140=only forbids; use sha256, or none with key_id"})
	}
	if c.SigningAlg != "" {
		errs = append(errs, oneOf("signing_alg", string(c.SigningAlg), "PS256", "RS256", "ES256", "ES384", "EdDSA"))
	}
	if c.AssertionAudience == "" {
		errs = append(errs, &plugins.ConfigError{Key: "assertion_audience", Message: "is empty; it is token_endpoint, issuer, or the audience itself"})
	}
	if life := time.Duration(c.AssertionLifetime); life < shortestLifetime || life > maxLifetime {
		errs = append(errs, &plugins.ConfigError{Key: "assertion_lifetime", Message: "is not between 1m and 1h"})
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
