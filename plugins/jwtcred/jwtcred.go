// Package jwtcred is the credential provider for assertions that another party issues: a token with which a platform
// vouches for the workload (RFC 7523, 2.2), from a file or from the platform itself. Package assertion gets a new one
// for every request, because it is valid only for minutes.
package jwtcred

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/assertion"
)

// Name is this provider's name in a configuration.
const Name = "jwtcred"

// AssertionType is the client_assertion_type of a JWT (RFC 7523, 2.2).
const AssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Provider implements [plugins.Provider].
type Provider struct{}

// assertionTypes are the forms of client authentication by an assertion, by their names in the configuration:
// the one of RFC 7523, and the one of JWT-SVIDs (draft-ietf-oauth-spiffe-client-auth, 4.1).
var assertionTypes = map[string]string{
	"jwt_bearer": AssertionType,
	"jwt_spiffe": "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
}

// settings is the configuration's form.
type settings struct {
	assertion.Config
	AssertionType string `json:"assertion_type"`
}

// source implements [plugins.Source].
type source struct {
	assertion.Source
	assertionType string
}

// Open implements [plugins.Provider].
func (Provider) Open(config json.RawMessage) (plugins.Source, error) {
	s := settings{AssertionType: "jwt_bearer"}
	err := plugins.DecodeConfig(config, &s)
	assertionType, known := assertionTypes[s.AssertionType]
	if !known {
		err = errors.Join(err, &plugins.ConfigError{Key: "assertion_type", Message: "is neither jwt_bearer nor jwt_spiffe"})
	}
	from, errFrom := s.Config.Open()
	if err := errors.Join(err, errFrom); err != nil {
		return nil, err
	}
	return source{from, assertionType}, nil
}

// Load implements [plugins.Source].
func (s source) Load(ctx context.Context) (plugins.Credential, error) {
	jwt, err := s.JWT(ctx)
	if err != nil {
		return plugins.Credential{}, err
	}
	return plugins.Credential{
		NotBefore: jwt.NotBefore,
		NotAfter:  jwt.NotAfter,
		Identity:  jwt.Subject,
		Authenticate: func(r *plugins.Request) error {
			r.Form.Set("client_assertion_type", s.assertionType)
			r.Form.Set("client_assertion", jwt.Value.Reveal())
			return nil
		},
	}, nil
}
