package certcred

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/certauth"
	"github.com/credagent/credagent/plugins/internal/spiffe"
)

// origin is where a certificate and its key come from that are in no file.
type origin struct {
	SPIFFE *spiffe.Config
	err    error // what is wrong with it; told with the rest
}

// UnmarshalJSON implements [json.Unmarshaler]. It keeps what is wrong, whose place in the configuration the
// decoder's error would not show.
func (o *origin) UnmarshalJSON(data []byte) error {
	var named map[string]json.RawMessage
	if json.Unmarshal(data, &named) != nil || named == nil {
		return errors.New("no object")
	}
	for name, settings := range named {
		if name != "spiffe" {
			o.err = errors.Join(o.err, &plugins.ConfigError{Key: "source." + name, Message: "unknown key; known are spiffe"})
			continue
		}
		o.SPIFFE = new(spiffe.Config)
		o.err = errors.Join(o.err, o.readSPIFFE(settings))
	}
	if len(named) == 0 {
		o.err = &plugins.ConfigError{Key: "source", Message: "is empty; known are spiffe"}
	}
	return nil
}

func (o *origin) readSPIFFE(settings json.RawMessage) error {
	var keys map[string]json.RawMessage
	if json.Unmarshal(settings, &keys) != nil {
		return &plugins.ConfigError{Key: "source.spiffe", Message: "is not an object of keys and values"}
	}
	var err error
	for key, value := range keys {
		switch {
		case key != "socket":
			err = errors.Join(err, &plugins.ConfigError{Key: "source.spiffe." + key, Message: "unknown key; known are socket"})
		case json.Unmarshal(value, &o.SPIFFE.Socket) != nil || o.SPIFFE.Check() != nil:
			err = errors.Join(err, &plugins.ConfigError{Key: "source.spiffe.socket", Message: "is not the absolute path of a unix socket"})
		}
	}
	return err
}

// fromSource reports whether the certificate and its key are in no file.
func (s source) fromSource() bool { return s.Source.SPIFFE != nil || s.Source.err != nil }

// checkOrigin returns what is wrong with a source, and with what is configured beside it.
func (s source) checkOrigin() error {
	switch {
	case s.CertificateFile != "" || s.GoogleKeyFile != "":
		return errors.Join(s.Source.err, &plugins.ConfigError{Message: "exactly one of certificate_file, google_key_file and source is needed"})
	case s.PrivateKeyFile != "" || s.PasswordFile != "" || s.PasswordEnv != "":
		return errors.Join(s.Source.err, &plugins.ConfigError{Key: "source", Message: "hands out the key too, and no password; leave private_key_file, password_file and password_env out"})
	}
	return s.Source.err
}

// loadSVID gets an X.509-SVID. When its life ends is not shown as the credential's: it is good for this request,
// and the next one gets another.
func (s source) loadSVID(ctx context.Context) (plugins.Credential, error) {
	const asking = "asking source spiffe"
	socket, err := s.Source.SPIFFE.Path(os.Getenv)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("%s: %w", asking, err)
	}
	svid, err := spiffe.FetchX509(ctx, socket)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("%s: %w", asking, err)
	}
	pair, err := certauth.NewPair(svid.Key, svid.Chain)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("%s: %w", asking, err)
	}
	credential, err := s.Credential(pair)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("%s: %w", asking, err)
	}
	credential.Identity = svid.ID
	credential.NotBefore, credential.NotAfter = time.Time{}, time.Time{}
	return s.withSecret(s.Equip(credential))
}
