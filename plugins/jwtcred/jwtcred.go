// Package jwtcred is the credential provider for assertions that another party issues: a token with which a platform
// vouches for the workload (RFC 7523, 2.2), from a file or from the platform itself. Package assertion gets a new one
// for every request, because it is valid only for minutes.
package jwtcred

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

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
	assertion.Subject
	AssertionType string `json:"assertion_type"`
	AuthMethod    string `json:"auth_method"`
	SendClientID  bool   `json:"send_client_id"`
}

// methodNone is the auth_method of a client that does not authenticate: what it exchanges is enough.
const methodNone = "none"

// source implements [plugins.Source].
type source struct {
	assertion.Source
	assertion.SubjectSource
	settings
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
	opened := source{settings: s, assertionType: assertionType}
	var errFrom, errSubject error
	opened.SubjectSource, errSubject = s.OpenSubject()
	if s.AuthMethod == "" {
		opened.Source, errFrom = s.Config.Open()
	}
	if err := errors.Join(err, s.checkMethod(), errFrom, errSubject); err != nil {
		return nil, err
	}
	return opened, nil
}

// checkMethod checks what goes with a client that does not authenticate.
func (s settings) checkMethod() error {
	switch {
	case s.AuthMethod == "" && s.SendClientID:
		return &plugins.ConfigError{Key: "send_client_id", Message: "is for auth_method none: with an assertion it is sent in any case"}
	case s.AuthMethod == "":
		return nil
	case s.AuthMethod != methodNone:
		return &plugins.ConfigError{Key: "auth_method", Message: "is none, for grant token_exchange without client authentication, or left out"}
	case s.AssertionFile != "" || s.Config.Source != nil || s.Audience != "":
		return &plugins.ConfigError{Key: "auth_method", Message: "is none, so that no assertion authenticates the client; what is to be exchanged stands in subject_token"}
	case s.SubjectToken == nil:
		return &plugins.ConfigError{Key: "subject_token", Message: "is needed with auth_method none"}
	}
	return nil
}

// Files implements [plugins.Source].
func (s source) Files() []string {
	return append(slices.Clone(s.SubjectFiles()), s.Source.Files()...)
}

// Load implements [plugins.Source].
func (s source) Load(ctx context.Context) (plugins.Credential, error) {
	if s.AuthMethod == methodNone {
		return s.Equip(plugins.Credential{Authenticate: s.leaveAlone}), nil
	}
	jwt, err := s.JWT(ctx)
	if err != nil {
		return plugins.Credential{}, err
	}
	return s.Equip(plugins.Credential{
		NotBefore: jwt.NotBefore,
		NotAfter:  jwt.NotAfter,
		Identity:  jwt.Subject,
		Authenticate: func(r *plugins.Request) error {
			r.Form.Set("client_assertion_type", s.assertionType)
			r.Form.Set("client_assertion", jwt.Value.Reveal())
			return nil
		},
	}), nil
}

// leaveAlone authenticates no client, and names it only to servers that want that.
func (s source) leaveAlone(r *plugins.Request) error {
	if r.Form.Get("grant_type") == "client_credentials" {
		return &plugins.ConfigError{Key: "auth_method", Message: "is none, which authenticates no client, so that no server gives a token for grant client_credentials"}
	}
	if !s.SendClientID {
		r.Form.Del("client_id")
	}
	return nil
}
