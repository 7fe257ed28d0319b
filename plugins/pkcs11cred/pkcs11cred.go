// Package pkcs11cred is the credential provider for certificates whose private key is in an HSM, a
// smart card or a TPM, reached by the PKCS#11 library of its maker (PKCS#11 2.40). The key signs
// there: it is never in this process. What is signed, an assertion or a TLS handshake, is decided
// in package certauth, as for keys in files.
//
// It needs cgo, so it is an external provider in a module of its own. Caveat: a call into a library
// cannot be interrupted; one that hangs is ended, with the process, by the agent.
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

// Provider implements [plugins.Provider]. It has one session with one token at a time, which its
// process needs no more than; [New] makes one.
type Provider struct {
	load func(path string) (library, error)

	mu        sync.Mutex         // also keeps a library from being asked two things at once
	libraries map[string]library // by path, initialized
	device    *device            // nil while there is none
	refused   map[string]string  // mark → state of the pin_file whose PIN was refused
}

// New returns a provider that has loaded no library yet.
func New() *Provider {
	return &Provider{load: loadLibrary, libraries: map[string]library{}, refused: map[string]string{}}
}

// source is also the configuration's form.
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

// objectID is the key's CKA_ID in hexadecimal, which tools also write with colons.
func (s source) objectID() string {
	return strings.ReplaceAll(strings.TrimPrefix(s.KeyObjectID, "0x"), ":", "")
}

// Files implements [plugins.Source].
func (s source) Files() []string {
	return slices.DeleteFunc([]string{s.CertificateFile, s.PINFile}, func(path string) bool { return path == "" })
}

// Load implements [plugins.Source]. The key proves itself by a signature, once for each session, so
// that a certificate of another key is noticed before a server sees it.
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
	// In front, it is the one that the pair is made of, if several are for the key.
	certificates = append([]*x509.Certificate{leaf}, certificates...)
	pair, err := certauth.NewPair(signer{source: s, public: certauth.PublicKey(leaf)}, unique(certificates))
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("using PKCS#11 module %q: %w", s.Module, err)
	}
	if s.CertificateFile == "" {
		pair.Others = nil // what else is on a token is nobody's business
	}
	credential, err := s.Credential(pair)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("using PKCS#11 module %q: %w", s.Module, err)
	}
	return credential, nil
}

// certificates reads the certificate and what certifies it, from the file or from the token.
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
