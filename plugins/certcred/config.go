package certcred

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/credagent/credagent/plugins"
)

// The client authentication methods, by their registered names (RFC 7591, 2; RFC 8705, 2).
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
	longestLifetime     = time.Hour
)

// source is also the configuration's form.
type source struct {
	CertificateFile   string                  `json:"certificate_file"`
	PrivateKeyFile    string                  `json:"private_key_file"`
	PasswordFile      string                  `json:"password_file"`
	AuthMethod        string                  `json:"auth_method"`
	SigningAlg        jose.SignatureAlgorithm `json:"signing_alg"`
	Thumbprint        string                  `json:"thumbprint"`
	KeyID             string                  `json:"key_id"`
	SendX5C           bool                    `json:"send_x5c"`
	AssertionAudience string                  `json:"assertion_audience"`
	AssertionLifetime plugins.Duration        `json:"assertion_lifetime"`
}

// Open implements [plugins.Provider].
func (Provider) Open(config json.RawMessage) (plugins.Source, error) {
	s := source{
		AuthMethod:        methodPrivateKeyJWT,
		Thumbprint:        thumbprintSHA256,
		AssertionAudience: audienceOfEndpoint,
		AssertionLifetime: plugins.Duration(defaultLifetime),
	}
	err := plugins.DecodeConfig(config, &s)
	if err := errors.Join(err, s.check()); err != nil {
		return nil, err
	}
	return s, nil
}

func (s source) check() error {
	var errs []error
	if s.CertificateFile == "" {
		errs = append(errs, &plugins.ConfigError{Key: "certificate_file", Message: "is needed"})
	}
	errs = append(errs,
		plugins.AbsolutePath("certificate_file", s.CertificateFile),
		plugins.AbsolutePath("private_key_file", s.PrivateKeyFile),
		plugins.AbsolutePath("password_file", s.PasswordFile),
		oneOf("auth_method", s.AuthMethod, methodPrivateKeyJWT, methodTLS, methodSelfSignedTLS),
		oneOf("thumbprint", s.Thumbprint, thumbprintSHA256, thumbprintSHA1, thumbprintNone),
	)
	if s.SigningAlg != "" {
		errs = append(errs, oneOf("signing_alg", string(s.SigningAlg), "PS256", "RS256", "ES256", "ES384", "EdDSA"))
	}
	if life := time.Duration(s.AssertionLifetime); life < shortestLifetime || life > longestLifetime {
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

// Files implements [plugins.Source].
func (s source) Files() []string {
	var files []string
	for _, path := range []string{s.CertificateFile, s.PrivateKeyFile, s.PasswordFile} {
		if path != "" && !slices.Contains(files, path) {
			files = append(files, path)
		}
	}
	return files
}
