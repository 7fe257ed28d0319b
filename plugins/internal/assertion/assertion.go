// Package assertion knows where the assertions come from that credagent does not sign itself: a token
// by which something else, such as a platform, vouches for the workload. Providers use it to
// authenticate a client (RFC 7523, 2.2) or to get a subject token (RFC 8693, 2.1), in their own
// processes.
//
// An assertion is read afresh each time and passed on as it is: whether it is good is for the server to
// judge. What is known to be useless is not sent. No error holds anything of an assertion.
package assertion

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/plugins"
)

// leeway is how far the host's clock may be ahead before a still valid assertion is held back.
const leeway = time.Minute

// Config is the part of a configuration that says where assertions come from. A provider embeds it in
// its own.
type Config struct {
	AssertionFile string `json:"assertion_file"`
}

// Open returns the source that is configured. Each problem in its error is a [plugins.ConfigError].
func (c Config) Open() (Source, error) {
	var err error
	if c.AssertionFile == "" {
		err = &plugins.ConfigError{Key: "assertion_file", Message: "is needed"}
	}
	return newFile("assertion_file", c.AssertionFile), errors.Join(err, plugins.AbsolutePath("assertion_file", c.AssertionFile))
}

// Source is where assertions come from. [Config.Open] makes one.
type Source struct {
	files   []string // that it reads
	reading string   // what it does to get one, for errors
	advice  string   // what it means that one has expired
	get     func(context.Context) (secret.Value, error)
}

// Files returns the absolute paths that the source reads, for the agent to watch.
func (s Source) Files() []string { return s.files }

// Token gets a token of any form. Its error says where it was to come from.
func (s Source) Token(ctx context.Context) (secret.Value, error) {
	return s.get(ctx)
}

// JWT gets a token that is a JWT, signed or encrypted, and has not expired as far as it says.
func (s Source) JWT(ctx context.Context) (JWT, error) {
	value, err := s.Token(ctx)
	if err != nil {
		return JWT{}, err
	}
	jwt, err := readJWT(value)
	if err != nil {
		return JWT{}, fmt.Errorf("%s: %w", s.reading, err)
	}
	if !jwt.NotAfter.IsZero() && time.Now().After(jwt.NotAfter.Add(leeway)) {
		return JWT{}, fmt.Errorf("%s: it expired at %s; %s", s.reading, jwt.NotAfter.UTC().Format(time.RFC3339), s.advice)
	}
	return jwt, nil
}
