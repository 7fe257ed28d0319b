package assertion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins"
)

// Subject is the part of a configuration that says which token is exchanged for another (RFC 8693, 2.1). A
// provider embeds it in its own.
type Subject struct {
	SubjectToken json.RawMessage `json:"subject_token"`
}

// OpenSubject returns the source that is configured. Each problem in its error is a [plugins.ConfigError].
func (c Subject) OpenSubject() (SubjectSource, error) {
	if c.SubjectToken == nil || string(c.SubjectToken) == "null" {
		return SubjectSource{}, nil
	}
	const key = "subject_token"
	var values map[string]json.RawMessage
	if json.Unmarshal(c.SubjectToken, &values) != nil {
		return SubjectSource{}, &plugins.ConfigError{Key: key, Message: "is not a mapping with assertion_file or source"}
	}
	var from Config
	if err := under(key, plugins.DecodeConfig(c.SubjectToken, &from)); err != nil {
		return SubjectSource{}, err
	}
	opened, err := from.Open()
	return SubjectSource{source: opened, given: err == nil}, under(key, err)
}

// SubjectSource is where tokens to be exchanged come from. [Subject.OpenSubject] makes one; the zero value
// is none.
type SubjectSource struct {
	source Source
	given  bool
}

// Given reports whether there is one.
func (s SubjectSource) Given() bool { return s.given }

// SubjectFiles returns the absolute paths of the files that something else replaces.
func (s SubjectSource) SubjectFiles() []string {
	if !s.given {
		return nil
	}
	return s.source.Files()
}

// CheckSubjectToken implements [plugins.SubjectTokenChecker].
func (s SubjectSource) CheckSubjectToken(string) error {
	if s.given {
		return nil
	}
	return &plugins.ConfigError{Key: "grant", Message: "token_exchange needs subject_token in the config of the client's credential: where the token to be exchanged comes from"}
}

// Equip gives a credential the tokens to exchange.
func (s SubjectSource) Equip(c plugins.Credential) plugins.Credential {
	if s.given {
		c.SubjectToken = s.Get
	}
	return c
}

// jwtTypes are the types of tokens that are JWTs (RFC 8693, 3).
var jwtTypes = []string{"urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"}

// Get gets a token of a type. One that says that it has expired, and what cannot be a token, is not sent.
func (s SubjectSource) Get(ctx context.Context, tokenType string) (string, error) {
	if slices.Contains(jwtTypes, tokenType) {
		jwt, err := s.source.JWT(ctx)
		return jwt.Value.Reveal(), hintSubject(err)
	}
	token, err := s.source.Token(ctx)
	if err != nil {
		return "", hintSubject(err)
	}
	if err := checkOpaque(token); err != nil {
		return "", fmt.Errorf("subject_token: %s: %w", s.source.doing, err)
	}
	if jwt, err := readJWT(token); err == nil && expired(jwt.NotAfter) {
		return "", fmt.Errorf("subject_token: %s: it expired at %s; %s", s.source.doing, jwt.NotAfter.UTC().Format(time.RFC3339), s.source.expired)
	}
	return token.Reveal(), nil
}

func hintSubject(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("subject_token: %w", err)
}

// checkOpaque refuses what is no token of any kind, whose characters are visible ones of ASCII.
func checkOpaque(token secret.Value) error {
	text := token.Reveal()
	switch {
	case text == "":
		return errors.New("it is empty")
	case strings.HasPrefix(text, "<"):
		return errors.New("it is HTML or XML and no token")
	case strings.HasPrefix(text, "{"):
		return errors.New("it is JSON and no token; have the token alone written there, format raw")
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("it holds blanks or other characters that no token has")
	}
	return nil
}
