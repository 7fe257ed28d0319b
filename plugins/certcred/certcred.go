// Package certcred is the credential provider for certificates whose private key is in a file or comes from a SPIFFE
// Workload API: an assertion signed with it (private_key_jwt) or TLS client authentication, both from package certauth.
// They are read again for every request, so a rotated certificate is used at once; a pair that does not match is never
// used. The server decides whether it still accepts an expired certificate.
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
	Source          origin `json:"source"`
	certauth.Config
}

// Open implements [plugins.Provider].
func (Provider) Open(config json.RawMessage) (plugins.Source, error) {
	s := source{Config: certauth.Default()}
	err := plugins.DecodeConfig(config, &s)
	err = errors.Join(err,
		s.checkOrigin(),
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
func (s source) Load(ctx context.Context) (plugins.Credential, error) {
	if s.Source.SPIFFE != nil {
		return s.loadSVID(ctx)
	}
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
