// Package jwtcred is the credential provider for assertions that something else makes: a
// Kubernetes projected service-account token, a SPIFFE JWT-SVID (RFC 7523, 2.2). Package assertion gets
// one afresh for every request, because it is replaced long before it expires.
package jwtcred

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/assertion"
)

// Name is what a configuration calls this provider.
const Name = "jwtcred"

// AssertionType is the client_assertion_type of a JWT (RFC 7523, 2.2).
const AssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Provider implements [plugins.Provider].
type Provider struct{}

// settings is the configuration's form.
type settings struct {
	assertion.Config
}

// source implements [plugins.Source].
type source struct {
	assertion.Source
}

// Open implements [plugins.Provider].
func (Provider) Open(config json.RawMessage) (plugins.Source, error) {
	var s settings
	err := plugins.DecodeConfig(config, &s)
	from, errFrom := s.Config.Open()
	if err := errors.Join(err, errFrom); err != nil {
		return nil, err
	}
	return source{from}, nil
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
			r.Form.Set("client_assertion_type", AssertionType)
			r.Form.Set("client_assertion", jwt.Value.Reveal())
			return nil
		},
	}, nil
}
