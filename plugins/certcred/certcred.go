// Package certcred is the credential provider for keys in files and for SVIDs of a SPIFFE Workload API: an assertion
// signed with the key (private_key_jwt), TLS client authentication with its certificate, and assertions signed as
// grants (jwt_bearer), all from package certauth. A key in files comes with its certificate, alone, or in the JSON file
// of a Google service account. It is read again for every request, so a rotated key is used at once; a pair that does
// not match is never used. The server decides whether it still accepts an expired certificate.
package certcred

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/assertion"
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
	GoogleKeyFile   string `json:"google_key_file"`
	PasswordFile    string `json:"password_file"`
	PasswordEnv     string `json:"password_env"`
	Source          origin `json:"source"`
	SecretFile      string `json:"secret_file"`
	SecretEnv       string `json:"secret_env"`
	certauth.Config
	assertion.Subject
	assertion.SubjectSource

	secretMethod string // client_secret_basic or client_secret_post, beside the grant; "" for none
}

// Open implements [plugins.Provider].
func (Provider) Open(config json.RawMessage) (plugins.Source, error) {
	s := source{Config: certauth.Default()}
	s.preset(config)
	err := plugins.DecodeConfig(config, &s)
	s.takeSecretMethod()
	subject, errSubject := s.OpenSubject()
	s.SubjectSource = subject
	err = errors.Join(err, errSubject, s.checkKeys(), s.checkSecret(),
		plugins.AbsolutePath("certificate_file", s.CertificateFile),
		plugins.AbsolutePath("private_key_file", s.PrivateKeyFile),
		plugins.AbsolutePath("google_key_file", s.GoogleKeyFile),
		plugins.AbsolutePath("password_file", s.PasswordFile),
		plugins.AbsolutePath("secret_file", s.SecretFile),
		s.Check(),
	)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// checkKeys checks where the key comes from, and what it can do.
func (s source) checkKeys() error {
	var errs []error
	given := func(path, key string) {
		if path != "" {
			errs = append(errs, &plugins.ConfigError{Key: key, Message: "is not for google_key_file, which holds the key and needs no certificate"})
		}
	}
	switch {
	case s.fromSource():
		errs = append(errs, s.checkOrigin())
	case s.GoogleKeyFile != "":
		given(s.CertificateFile, "certificate_file")
		given(s.PrivateKeyFile, "private_key_file")
		given(s.KeyID, "key_id")
		errs = append(errs, s.checkGoogle())
	case s.CertificateFile == "" && s.PrivateKeyFile == "":
		errs = append(errs, &plugins.ConfigError{Key: "certificate_file", Message: "is needed; or source, or google_key_file, or private_key_file for a key that is registered without a certificate"})
	case s.CertificateFile == "":
		errs = append(errs, s.RequireNoCertificate())
	}
	return errors.Join(errs...)
}

// Files implements [plugins.Source].
func (s source) Files() []string {
	var files []string
	for _, path := range []string{s.CertificateFile, s.PrivateKeyFile, s.GoogleKeyFile, s.PasswordFile, s.SecretFile} {
		if path != "" && !slices.Contains(files, path) {
			files = append(files, path)
		}
	}
	return append(files, s.SubjectFiles()...)
}

// Load implements [plugins.Source].
func (s source) Load(ctx context.Context) (plugins.Credential, error) {
	switch {
	case s.Source.SPIFFE != nil:
		return s.loadSVID(ctx)
	case s.GoogleKeyFile != "":
		return s.loadGoogle()
	}
	pair, err := s.loadPair()
	if err != nil {
		return plugins.Credential{}, err
	}
	credential, err := s.Credential(pair)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("using %s: %w", s.keyName(), err)
	}
	return s.withSecret(s.Equip(credential))
}

// keyName names the file that the key is known by, for errors.
func (s source) keyName() string {
	if s.CertificateFile == "" {
		return fmt.Sprintf("private_key_file %q", s.PrivateKeyFile)
	}
	return fmt.Sprintf("certificate_file %q", s.CertificateFile)
}
