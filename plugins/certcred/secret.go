package certcred

import (
	"slices"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/certauth"
	"github.com/credagent/credagent/plugins/secretcred"
)

// takeSecretMethod takes an auth_method that is a client secret's out of what package certauth sees: to it
// there is no client authentication, and the secret is added here.
func (s *source) takeSecretMethod() {
	s.OtherMethods = secretcred.Methods()
	if slices.Contains(s.OtherMethods, s.AuthMethod) {
		s.secretMethod, s.AuthMethod = s.AuthMethod, certauth.NoAuthentication
	}
}

// checkSecret checks the client secret that some servers want beside an assertion that is the grant (Box).
func (s source) checkSecret() error {
	given := s.SecretFile != "" || s.SecretEnv != ""
	switch {
	case s.secretMethod != "" && (s.SecretFile == "") == (s.SecretEnv == ""):
		return &plugins.ConfigError{Key: "secret_file", Message: "or secret_env is needed, exactly one of the two, with auth_method " + s.secretMethod}
	case s.secretMethod == "" && given:
		return &plugins.ConfigError{Key: "secret_file", Message: "and secret_env are for auth_method client_secret_basic and client_secret_post"}
	}
	return nil
}

// withSecret adds the client secret to what authenticates requests, where there is one.
func (s source) withSecret(credential plugins.Credential) (plugins.Credential, error) {
	if s.secretMethod == "" {
		return credential, nil
	}
	value, err := secretcred.Read(s.SecretFile, s.SecretEnv)
	if err != nil {
		return plugins.Credential{}, err
	}
	credential.Authenticate = func(r *plugins.Request) error {
		if r.Form.Get("grant_type") == "client_credentials" {
			return &plugins.ConfigError{Key: "auth_method", Message: "is a client secret's, which certcred sends beside an assertion that is the grant; for grant client_credentials use secretcred"}
		}
		secretcred.Authenticate(r, s.secretMethod, value)
		return nil
	}
	return credential, nil
}
