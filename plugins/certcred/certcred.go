// Package certcred is the credential provider for certificates whose private key is in a file: an
// assertion signed with it (private_key_jwt) or TLS client authentication, both from package certauth. Files are read
// again for every request, so a rotated certificate is used at once; a pair that does not match is never used. The
// server decides whether it still accepts an expired certificate.
package certcred

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/certauth"
)

// Name is this provider's name in a configuration.
const Name = "certcred"

// Provider implements [plugins.Provider].
type Provider struct{}

// source is decoded from the configuration.
type source struct {
	CertificateFile string `json:"certificate_file"`
	PrivateKeyFile  string `json:"private_key_file"`
	PasswordFile    string `json:"password_file"`
	PasswordEnv     string `json:"password_env"`
	certauth.Config
}

// Open implements [plugins.Provider].
func (Provider) Open(config json.RawMessage) (plugins.Source, error) {
	s := source{Config: certauth.Default()}
	err := plugins.DecodeConfig(config, &s)
	if s.CertificateFile == "" {
		err = errors.Join(err, &plugins.ConfigError{Key: "certificate_file", Message: "is needed"})
	}
	err = errors.Join(err,
		plugins.AbsolutePath("certificate_file", s.CertificateFile),
		plugins.AbsolutePath("private_key_file", s.PrivateKeyFile),
		plugins.AbsolutePath("password_file", s.PasswordFile),
		s.Check(),
	)
	if err != nil {
		return nil, err
	}
	return s, nil
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

// Load implements [plugins.Source].
func (s source) Load(context.Context) (plugins.Credential, error) {
	pair, err := s.loadPair()
	if err != nil {
		return plugins.Credential{}, err
	}
	credential, err := s.Credential(pair)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("using certificate_file %q: %w", s.CertificateFile, err)
	}
	return credential, nil
}
