// Package pkcs11cred is the credential provider for certificates whose private key is in an HSM, a
// smart card or a TPM, through its vendor's PKCS#11 library (PKCS#11 2.40). The key signs there and is never in this
// process. Package certauth decides what is signed, an assertion or a TLS handshake, as for keys in files.
//
// It needs cgo, so it is an external provider in a separate module. Caveat: a call into a library cannot be
// interrupted; if one hangs, the agent ends the process.
package pkcs11cred

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/credagent/credagent/internal/keyfile"
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/certauth"
	"github.com/credagent/credagent/plugins/internal/credfile"
)

// Provider implements [plugins.Provider]. It has one session with one token at a time, which is all that its process
// needs; [New] creates one.
type Provider struct {
	load func(path string) (library, error)

	mu        sync.Mutex         // also serializes calls into a library
	libraries map[string]library // by path, initialized
	device    *device            // nil while there is none
	refused   map[string]string  // mark → state of the pin_file whose PIN was refused
}

// New returns a provider that has loaded no library yet.
func New() *Provider {
	return &Provider{load: loadLibrary, libraries: map[string]library{}, refused: map[string]string{}}
}

// source is decoded from the configuration.
type source struct {
	provider *Provider

	Module           string            `json:"module"`
	Environment      map[string]string `json:"environment"`
	TokenLabel       string            `json:"token_label"`
	Serial           string            `json:"serial"`
	Slot             *uint             `json:"slot"`
	KeyLabel         string            `json:"key_label"`
	KeyObjectID      string            `json:"key_object_id"`
	CertificateFile  string            `json:"certificate_file"`
	CertificateLabel string            `json:"certificate_label"`
	PINFile          string            `json:"pin_file"`
	PINGuardDir      string            `json:"pin_guard_dir"`
	certauth.Config
}

// Open implements [plugins.Provider].
func (p *Provider) Open(config json.RawMessage) (plugins.Source, error) {
	s := source{provider: p, PINGuardDir: os.TempDir(), Config: certauth.Default()}
	err := plugins.DecodeConfig(config, &s)
	if s.Module == "" {
		err = errors.Join(err, &plugins.ConfigError{Key: "module", Message: "is needed: the path of the token's PKCS#11 library"})
	}
	if s.CertificateFile != "" && s.CertificateLabel != "" {
		err = errors.Join(err, &plugins.ConfigError{Message: "only one of certificate_file and certificate_label is possible"})
	}
	if _, badHex := hex.DecodeString(s.objectID()); badHex != nil {
		err = errors.Join(err, &plugins.ConfigError{Key: "key_object_id", Message: "is not hexadecimal"})
	}
	for name := range s.Environment {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			err = errors.Join(err, &plugins.ConfigError{Key: "environment", Message: "holds a name that no environment variable can have"})
		}
	}
	err = errors.Join(err,
		plugins.AbsolutePath("module", s.Module),
		plugins.AbsolutePath("certificate_file", s.CertificateFile),
		plugins.AbsolutePath("pin_file", s.PINFile),
		plugins.AbsolutePath("pin_guard_dir", s.PINGuardDir),
		s.Check(),
	)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// objectID returns the key's CKA_ID in hexadecimal, which tools also write with colons.
func (s source) objectID() string {
	return strings.ReplaceAll(strings.TrimPrefix(s.KeyObjectID, "0x"), ":", "")
}

// Files implements [plugins.Source].
func (s source) Files() []string {
	return slices.DeleteFunc([]string{s.CertificateFile, s.PINFile}, func(path string) bool { return path == "" })
}

// Load implements [plugins.Source]. The key makes a test signature, once for each session, so that a certificate for
// another key is noticed before a server sees it.
func (s source) Load(ctx context.Context) (plugins.Credential, error) {
	var certificates []*x509.Certificate
	var leaf *x509.Certificate
	err := s.provider.use(ctx, s, func(d *device) (err error) {
		if err := d.findKey(s); err != nil {
			return err
		}
		if certificates, err = s.certificates(d); err != nil {
			return err
		}
		leaf, err = d.leafAmong(certificates, s)
		return err
	})
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("using PKCS#11 module %q: %s", s.Module, describe(err))
	}
	// In front, it is chosen for the pair if several are for the key.
	certificates = append([]*x509.Certificate{leaf}, certificates...)
	pair, err := certauth.NewPair(signer{source: s, public: certauth.PublicKey(leaf)}, unique(certificates))
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("using PKCS#11 module %q: %w", s.Module, err)
	}
	if s.CertificateFile == "" {
		pair.Others = nil // do not send the token's other certificates
	}
	credential, err := s.Credential(pair)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("using PKCS#11 module %q: %w", s.Module, err)
	}
	return credential, nil
}

// certificates reads the certificate and its issuers, from the file or from the token.
func (s source) certificates(d *device) ([]*x509.Certificate, error) {
	if s.CertificateFile == "" {
		return d.certificates()
	}
	data, err := credfile.Read("certificate_file", s.CertificateFile)
	if err != nil {
		return nil, err
	}
	certificates, err := keyfile.Certificates(data)
	if err != nil {
		return nil, fmt.Errorf("reading certificate_file %q: %w", s.CertificateFile, err)
	}
	return certificates, nil
}

func unique(certificates []*x509.Certificate) []*x509.Certificate {
	var all []*x509.Certificate
	for _, c := range certificates {
		if !slices.ContainsFunc(all, c.Equal) {
			all = append(all, c)
		}
	}
	return all
}
