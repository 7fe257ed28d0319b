package certcred

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/credagent/credagent/internal/keyfile"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/internal/certauth"
	"github.com/credagent/credagent/plugins/internal/credfile"
)

// longestGoogle is the longest life of an assertion for Google, which takes an hour from iat, and that is
// a little in the past.
const longestGoogle = 59 * time.Minute

// preset sets what is different by default where a configuration names the key file of a Google service
// account: no client authentication, RS256, and the scopes in the assertion.
func (s *source) preset(config json.RawMessage) {
	var named struct {
		GoogleKeyFile string `json:"google_key_file"`
	}
	_ = json.Unmarshal(config, &named) // DecodeConfig reports it
	if named.GoogleKeyFile != "" {
		s.AuthMethod, s.SigningAlg, s.ScopeIn = certauth.NoAuthentication, "RS256", certauth.ScopeInAssertion
		s.SubjectOptional = true
	}
}

// checkGoogle checks what Google does not take.
func (s source) checkGoogle() error {
	if time.Duration(s.AssertionLifetime) > longestGoogle {
		return &plugins.ConfigError{Key: "assertion_lifetime", Message: "is longer than the 59m that Google takes"}
	}
	return s.RequireNoCertificate()
}

// loadGoogle reads the key file of a service account, which says who signs, with which key, for whom.
func (s source) loadGoogle() (plugins.Credential, error) {
	data, err := credfile.Read("google_key_file", s.GoogleKeyFile)
	if err != nil {
		return plugins.Credential{}, err
	}
	defer clear(data)
	account, err := parseServiceAccount(data)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("reading google_key_file %q: %w", s.GoogleKeyFile, err)
	}
	pair, err := certauth.NewKey(account.key)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("reading google_key_file %q: %w", s.GoogleKeyFile, err)
	}
	s.Issuer, s.KeyID = account.email, account.keyID
	if s.AssertionAudience == certauth.AudienceOfEndpoint && account.tokenURI != "" {
		s.AssertionAudience = account.tokenURI
	}
	credential, err := s.Credential(pair)
	if err != nil {
		return plugins.Credential{}, fmt.Errorf("using google_key_file %q: %w", s.GoogleKeyFile, err)
	}
	sign := credential.Sign
	credential.Sign = func(r *plugins.Request, a plugins.Assertion) (string, error) {
		if r.ClientID != account.email && r.ClientID != account.clientID {
			return "", fmt.Errorf("using google_key_file %q: it is of service account %q, and the client's client_id is %q; make client_id the account's", s.GoogleKeyFile, account.email, r.ClientID)
		}
		return sign(r, a)
	}
	return s.withSecret(s.Equip(credential))
}

// serviceAccount is what the key file of a Google service account says.
type serviceAccount struct {
	email, clientID, keyID, tokenURI string
	key                              crypto.Signer
}

// keyText is a private key as JSON has it. Its bytes are its own, so that they can be cleared.
type keyText []byte

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *keyText) UnmarshalText(text []byte) error {
	*k = bytes.Clone(text)
	clear(text) // what the decoder has made of it, or the file's content, which is not read again
	return nil
}

// parseServiceAccount reads a key file as Google's console and gcloud write it. Its errors hold nothing of
// the file but the type that it says it is of, where that is one of Google's.
func parseServiceAccount(data []byte) (serviceAccount, error) {
	var file struct {
		Type       string  `json:"type"`
		KeyID      string  `json:"private_key_id"`
		PrivateKey keyText `json:"private_key"`
		Email      string  `json:"client_email"`
		ClientID   string  `json:"client_id"`
		TokenURI   string  `json:"token_uri"`

		Installed json.RawMessage `json:"installed"`
		Web       json.RawMessage `json:"web"`
	}
	text := keyfile.Text(data)
	err := json.Unmarshal(text, &file)
	defer func() { clear(file.PrivateKey) }()
	switch {
	case err != nil:
		return serviceAccount{}, errNoKeyFile(text)
	case file.Installed != nil || file.Web != nil:
		return serviceAccount{}, errors.New("it is of an OAuth client, with which people log in, and not of a service account" + makeKey)
	case file.Type != "service_account":
		return serviceAccount{}, errOtherType(file.Type)
	case file.Email == "" || file.KeyID == "" || len(file.PrivateKey) == 0:
		return serviceAccount{}, errors.New("client_email, private_key_id or private_key is missing in it: it was edited, or its key left out" + makeKey)
	}
	content := keyfile.Read(file.PrivateKey)
	defer content.Clear()
	key, err := parsePrivateKey(content, secret.Value{}, nil)
	if err != nil {
		return serviceAccount{}, errors.New("its private_key is damaged" + makeKey)
	}
	return serviceAccount{file.Email, file.ClientID, file.KeyID, file.TokenURI, key}, nil
}

const makeKey = "; make a new one with: gcloud iam service-accounts keys create FILE --iam-account=ACCOUNT"

// errNoKeyFile describes what is not JSON, without the parser's words, which quote it.
func errNoKeyFile(text []byte) error {
	trimmed := bytes.TrimSpace(text)
	switch {
	case bytes.HasPrefix(trimmed, []byte("<")):
		return errors.New("it is HTML or XML, such as a web page that was saved in its place" + makeKey)
	case bytes.HasPrefix(trimmed, []byte("-----BEGIN")):
		return errors.New("it is PEM and not Google's JSON; name a key alone in private_key_file")
	case bytes.HasPrefix(trimmed, []byte("{")):
		return errors.New("its JSON is damaged, such as cut off, or a value in it is of the wrong type" + makeKey)
	}
	return errors.New("it is not the JSON object that Google's key files are" + makeKey)
}

// errOtherType describes Google's other kinds of credential files.
func errOtherType(kind string) error {
	switch kind {
	case "authorized_user":
		return errors.New("it is of a user (authorized_user), as gcloud auth application-default login writes it, and not of a service account" + makeKey)
	case "external_account":
		return errors.New("it is of workload identity federation (external_account), which has no key; what it describes is grant token_exchange at https://sts.googleapis.com/v1/token")
	case "external_account_authorized_user", "impersonated_service_account", "gdch_service_account":
		return fmt.Errorf("it is of type %s and not of a service account with a key of its own%s", kind, makeKey)
	}
	return errors.New("its type is not service_account" + makeKey)
}
