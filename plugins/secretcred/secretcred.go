// Package secretcred is the credential provider for client secrets: client_secret_basic and
// client_secret_post (RFC 6749, 2.3.1). The secret comes from a file or from one environment
// variable and is read again for every request.
package secretcred

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/assertion"
	"github.com/credagent/credagent/plugins/internal/credfile"
)

// Name is this provider's name in a configuration.
const Name = "secretcred"

// The client authentication methods, by their registered names (RFC 7591, 2).
const (
	methodBasic = "client_secret_basic"
	methodPost  = "client_secret_post"
)

// Provider implements [plugins.Provider].
type Provider struct{}

// source is decoded from the configuration.
type source struct {
	assertion.Subject
	assertion.SubjectSource
	SecretFile string `json:"secret_file"`
	SecretEnv  string `json:"secret_env"`
	AuthMethod string `json:"auth_method"`
}

// Open implements [plugins.Provider].
func (Provider) Open(config json.RawMessage) (plugins.Source, error) {
	var s source
	err := plugins.DecodeConfig(config, &s)
	if (s.SecretFile == "") == (s.SecretEnv == "") {
		err = errors.Join(err, &plugins.ConfigError{Message: "exactly one of secret_file and secret_env is needed"})
	}
	if s.AuthMethod != "" && s.AuthMethod != methodBasic && s.AuthMethod != methodPost {
		err = errors.Join(err, &plugins.ConfigError{Key: "auth_method", Message: "is neither client_secret_basic nor client_secret_post"})
	}
	subject, errSubject := s.OpenSubject()
	if err := errors.Join(err, plugins.AbsolutePath("secret_file", s.SecretFile), errSubject); err != nil {
		return nil, err
	}
	s.SubjectSource = subject
	return s, nil
}

// Files implements [plugins.Source].
func (s source) Files() []string {
	files := s.SubjectFiles()
	if s.SecretFile != "" {
		files = append([]string{s.SecretFile}, files...)
	}
	return files
}

// Load implements [plugins.Source].
func (s source) Load(context.Context) (plugins.Credential, error) {
	value, err := Read(s.SecretFile, s.SecretEnv)
	if err != nil {
		return plugins.Credential{}, err
	}
	return s.Equip(plugins.Credential{Authenticate: func(r *plugins.Request) error {
		Authenticate(r, s.method(r.AuthMethodsSupported), value)
		return nil
	}}), nil
}

// Read reads a client secret from a file or, where env is not empty, from the environment variable of that
// name.
func Read(file, env string) (secret.Value, error) {
	if env != "" {
		value := os.Getenv(env)
		if value == "" {
			// Do not show the name: people put the secret in its place.
			return secret.Value{}, errors.New("reading secret_env: the environment variable that it names is not set or empty")
		}
		line, err := credfile.Secret([]byte(value))
		if err != nil {
			return secret.Value{}, fmt.Errorf("reading secret_env: the environment variable that it names: %w", err)
		}
		return line, nil
	}
	return credfile.ReadSecret("secret_file", file)
}

// Methods are the client authentication methods of a client secret.
func Methods() []string { return []string{methodBasic, methodPost} }

// Authenticate adds a client secret to a request, by one of the methods (RFC 6749, 2.3.1).
func Authenticate(r *plugins.Request, method string, value secret.Value) {
	if method == methodPost {
		r.Form.Set("client_secret", value.Reveal())
		return
	}
	// With Basic the client_id is in the header; in the body too it would be a second method to
	// strict servers (RFC 6749, 2.3). Both parts are form-urlencoded first (2.3.1).
	r.Form.Del("client_id")
	pair := url.QueryEscape(r.ClientID) + ":" + url.QueryEscape(value.Reveal())
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
}

// method returns the configured method, else one that the server's metadata lists, else Basic, which every
// server with client secrets must understand (RFC 6749, 2.3.1).
func (s source) method(supported []string) string {
	switch {
	case s.AuthMethod != "":
		return s.AuthMethod
	case slices.Contains(supported, methodPost) && !slices.Contains(supported, methodBasic):
		return methodPost
	}
	return methodBasic
}
