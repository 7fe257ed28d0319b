// Package token defines the central value of credagent: an access token, with what its readers need to know about it.
//
// A program that embeds the agent gets a [Token] from it and sends the server what its AccessToken reveals:
//
//	request.Header.Set("Authorization", t.TokenType+" "+t.AccessToken.Reveal())
//
// It is a leaf: values only, no I/O.
package token

import (
	"time"

	"github.com/credagent/credagent/internal/secret"
)

// Secret is a string that appears as "[redacted]" however it is printed, logged or marshalled. Its method Reveal
// returns the content, and IsZero reports whether it is empty. Compare two secrets with ==.
type Secret = secret.Value

// NewSecret returns content as a secret, for a program's own sinks, state and tests.
func NewSecret(content string) Secret { return secret.New(content) }

// Token is an access token as the authorization server issued it (RFC 6749, 5.1).
type Token struct {
	Name        string    // the token's name in the configuration
	AccessToken Secret    // opaque: never decoded
	TokenType   string    // "Bearer"
	Expiry      time.Time // when the token expires, counted from when its request was sent
	RefreshOn   time.Time // when credagent plans to replace it
	Scope       string    // the scope granted, space-separated
	ClientID    string    // the client it was issued to
}

// ValidAt reports whether the token may still be presented at the given instant. It has expired as soon as either
// clock says so, because the monotonic clock stands still while a machine sleeps.
func (t Token) ValidAt(now time.Time) bool {
	return !t.AccessToken.IsZero() && now.Before(t.Expiry) && now.Round(0).Before(t.Expiry.Round(0))
}
