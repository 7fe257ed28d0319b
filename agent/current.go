package agent

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/credagent/credagent/internal/token"
)

// ErrUnknownToken says that the configuration has no token of that name.
var ErrUnknownToken = errors.New("no such token")

// NotYetError says that there is no good token of a name now, and when to ask again.
type NotYetError struct {
	Token   string
	RetryIn time.Duration // at least a second, in whole seconds: what a Retry-After may say
}

// Error implements error.
func (e *NotYetError) Error() string {
	return fmt.Sprintf("token %q: %s; ask again in %.0fs", e.Token, ErrNoToken, e.RetryIn.Seconds())
}

// Unwrap lets callers branch on [ErrNoToken].
func (e *NotYetError) Unwrap() error { return ErrNoToken }

// Token returns a token that is good now. Its error is [ErrUnknownToken] or a [*NotYetError].
func (a *Agent) Token(name string) (token.Token, error) {
	k, ok := a.parts.Load().keepers[name]
	if !ok {
		return token.Token{}, fmt.Errorf("token %q: %w", name, ErrUnknownToken)
	}
	return k.current()
}

// current returns the token if it is good now, else a [*NotYetError].
func (k *keeper) current() (token.Token, error) {
	now := time.Now()
	v := k.published.Load()
	if v.token.ValidAt(now) {
		return v.token, nil
	}
	return token.Token{}, &NotYetError{Token: k.cfg.Name, RetryIn: wholeSeconds(k.nextRequest(v, now).Sub(now))}
}

// nextRequest is when the next request for the token is planned, as far as its gate lets it.
func (k *keeper) nextRequest(v *tokenView, now time.Time) time.Time {
	next := v.nextAt
	if opens := k.client.gate.published.Load().OpensAt(); opens.After(next) && opens.After(now) {
		next = opens
	}
	return next
}

// wholeSeconds rounds a wait up to seconds, to one at least.
func wholeSeconds(wait time.Duration) time.Duration {
	return max(time.Duration(math.Ceil(wait.Seconds()))*time.Second, time.Second)
}
