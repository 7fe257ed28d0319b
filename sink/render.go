package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/credagent/credagent/token"
)

// Lookup finds a token by its name.
type Lookup = func(name string) (token.Token, bool)

// Renderer turns tokens into a file's content.
type Renderer interface {
	// Tokens returns the names of the tokens that the content needs, sorted.
	Tokens() []string
	// Render returns the content. A token that lookup does not have is a [*MissingTokenError];
	// no error shows any part of a token.
	Render(lookup Lookup) ([]byte, error)
}

// MissingTokenError names the token that a rendering has to wait for.
type MissingTokenError struct {
	Token string
}

// Error implements error.
func (e *MissingTokenError) Error() string {
	return fmt.Sprintf("token %q has not been acquired yet", e.Token)
}

// form is a token as shown in JSON and templates. It holds the access token in plain text, so it does not outlive a
// rendering.
type form struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresOn   int64  `json:"expires_on"`
	Expiry      string `json:"expiry"`
	RefreshOn   int64  `json:"refresh_on"`
	Scope       string `json:"scope"`
	ClientID    string `json:"client_id"`
	Token       string `json:"token"`
}

func newForm(name string, lookup Lookup) (form, error) {
	t, ok := lookup(name)
	if !ok || t.AccessToken.IsZero() {
		return form{}, &MissingTokenError{Token: name}
	}
	content := t.AccessToken.Reveal()
	if !isVisible(content) {
		return form{}, fmt.Errorf("token %q has a character that no access token may have (RFC 6749, A.12); that is to be fixed at the authorization server", name)
	}
	return form{
		AccessToken: content,
		TokenType:   t.TokenType,
		ExpiresOn:   epoch(t.Expiry),
		Expiry:      t.Expiry.UTC().Format(time.RFC3339),
		RefreshOn:   epoch(t.RefreshOn),
		Scope:       t.Scope,
		ClientID:    t.ClientID,
		Token:       name,
	}, nil
}

// isVisible keeps line breaks out of headers and files made of lines.
func isVisible(accessToken string) bool {
	for i := range len(accessToken) {
		if c := accessToken[i]; c < 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}

func epoch(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

var errUnknownField = errors.New("no such field; use access_token, token_type, expires_on, expiry, refresh_on, scope, client_id or token")

// field returns a field of the JSON form as text.
func (f form) field(name string) (string, error) {
	switch name {
	case "", "access_token":
		return f.AccessToken, nil
	case "token_type":
		return f.TokenType, nil
	case "expires_on":
		return strconv.FormatInt(f.ExpiresOn, 10), nil
	case "expiry":
		return f.Expiry, nil
	case "refresh_on":
		return strconv.FormatInt(f.RefreshOn, 10), nil
	case "scope":
		return f.Scope, nil
	case "client_id":
		return f.ClientID, nil
	case "token":
		return f.Token, nil
	default:
		return "", errUnknownField
	}
}

// single renders one token.
type single struct {
	name string
	show func(form) ([]byte, error)
}

func (s single) Tokens() []string { return []string{s.name} }

func (s single) Render(lookup Lookup) ([]byte, error) {
	f, err := newForm(s.name, lookup)
	if err != nil {
		return nil, err
	}
	return s.show(f)
}

// Raw renders only the access token, without a newline.
func Raw(name string) Renderer {
	return single{name, func(f form) ([]byte, error) { return []byte(f.AccessToken), nil }}
}

// Header renders an HTTP header line, as curl -H @file reads it (RFC 6750, 2.1).
func Header(name string) Renderer {
	return single{name, func(f form) ([]byte, error) {
		return []byte("Authorization: Bearer " + f.AccessToken + "\n"), nil
	}}
}

// JSON renders one object with everything known about the token, and a newline.
func JSON(name string) Renderer {
	return single{name, func(f form) ([]byte, error) { return encode(f) }}
}

// ExecCredential renders a client.authentication.k8s.io/v1 ExecCredential, for kubectl and
// other Kubernetes clients whose exec plugin prints the file.
func ExecCredential(name string) Renderer {
	type status struct {
		ExpirationTimestamp string `json:"expirationTimestamp"`
		Token               string `json:"token"`
	}
	type execCredential struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Status     status `json:"status"`
	}
	return single{name, func(f form) ([]byte, error) {
		return encode(execCredential{
			APIVersion: "client.authentication.k8s.io/v1",
			Kind:       "ExecCredential",
			Status:     status{ExpirationTimestamp: f.Expiry, Token: f.AccessToken},
		})
	}}
}

// EnvoySDS renders a discovery response with the token as a generic secret of the token's name,
// for an SDS path_config_source; Envoy requires such a file's name to end in .json.
func EnvoySDS(name string) Renderer {
	const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	type dataSource struct {
		InlineString string `json:"inline_string"`
	}
	type genericSecret struct {
		Secret dataSource `json:"secret"`
	}
	type resource struct {
		Type          string        `json:"@type"`
		Name          string        `json:"name"`
		GenericSecret genericSecret `json:"generic_secret"`
	}
	type discoveryResponse struct {
		VersionInfo string     `json:"version_info"`
		Resources   []resource `json:"resources"`
		TypeURL     string     `json:"type_url"`
	}
	return single{name, func(f form) ([]byte, error) {
		return encode(discoveryResponse{
			VersionInfo: f.Expiry,
			Resources:   []resource{{secretType, f.Token, genericSecret{dataSource{f.AccessToken}}}},
			TypeURL:     secretType,
		})
	}}
}

// encode writes JSON as people and other languages' parsers expect it: & and < unescaped.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// newForms looks up each token once, so that one rendering never mixes two issues of a token.
func newForms(names []string, lookup Lookup) (map[string]form, error) {
	forms := make(map[string]form, len(names))
	for _, name := range names {
		f, err := newForm(name, lookup)
		if err != nil {
			return nil, err
		}
		forms[name] = f
	}
	return forms, nil
}

func sortedUnique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// Field returns a renderer of one field of a token's JSON form, as text; "" is the access token itself.
func Field(name, field string) (Renderer, error) {
	if _, err := (form{}).field(field); err != nil {
		return nil, err
	}
	return single{name, func(f form) ([]byte, error) {
		value, err := f.field(field)
		return []byte(value), err
	}}, nil
}
