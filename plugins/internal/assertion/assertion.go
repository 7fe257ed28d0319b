// Package assertion knows where the assertions come from that credagent does not sign itself: a token
// by which something else, such as a platform, vouches for the workload. Providers use it to
// authenticate a client (RFC 7523, 2.2) or to get a subject token (RFC 8693, 2.1), in their own
// processes.
//
// An assertion is got afresh each time and passed on as it is: whether it is good is for the server to
// judge. What is known to be useless is not sent. A source is asked once: to try again, and when, is the
// agent's decision. No error holds anything of an assertion.
package assertion

import (
	"context"
	"encoding/json"
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
	AssertionFile string          `json:"assertion_file"`
	Source        json.RawMessage `json:"source"`
	Audience      string          `json:"audience"`
}

// Open returns the source that is configured. Each problem in its error is a [plugins.ConfigError].
func (c Config) Open() (Source, error) { return c.openOn(thisHost()) }

func (c Config) openOn(h host) (Source, error) {
	switch {
	case (c.AssertionFile == "") == (c.Source == nil):
		err := &plugins.ConfigError{Message: "exactly one of assertion_file and source is needed"}
		return Source{}, errors.Join(err, plugins.AbsolutePath("assertion_file", c.AssertionFile))
	case c.Source != nil:
		return open(h, c.Source, c.Audience)
	case c.Audience != "":
		return Source{}, &plugins.ConfigError{Key: "audience", Message: "is for a source; whatever writes assertion_file decides for whom its assertions are"}
	}
	return newFile("assertion_file", c.AssertionFile), plugins.AbsolutePath("assertion_file", c.AssertionFile)
}

// Source is where assertions come from. [Config.Open] makes one.
type Source struct {
	files   []string // that it reads and something else replaces
	doing   string   // what it does to get one, for errors
	expired string   // what it means that one has expired
	lasting bool     // it hands out the same one until something else replaces it
	get     func(context.Context) (secret.Value, error)
}

// Files returns the absolute paths of the files that something else replaces, for the agent to watch.
func (s Source) Files() []string { return s.files }

// Token gets a token of any form. Its error is a [plugins.Unavailable] where waiting may be all that is
// needed.
func (s Source) Token(ctx context.Context) (secret.Value, error) {
	return s.get(ctx)
}

// JWT gets a token that is a JWT, signed or encrypted, and has not expired as far as it says. When its life
// begins and ends is known only of one that the source hands out again: another is good for one request.
func (s Source) JWT(ctx context.Context) (JWT, error) {
	value, err := s.Token(ctx)
	if err != nil {
		return JWT{}, err
	}
	jwt, err := readJWT(value)
	if err != nil {
		return JWT{}, fmt.Errorf("%s: %w", s.doing, err)
	}
	if expired(jwt.NotAfter) {
		return JWT{}, fmt.Errorf("%s: it expired at %s; %s", s.doing, jwt.NotAfter.UTC().Format(time.RFC3339), s.expired)
	}
	if !s.lasting {
		jwt.NotBefore, jwt.NotAfter = time.Time{}, time.Time{}
	}
	return jwt, nil
}

// expired reports whether an instant has passed by any clock that is not far wrong.
func expired(end time.Time) bool { return !end.IsZero() && time.Now().After(end.Add(leeway)) }
