package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/token"
)

// ErrUnknownToken says that the configuration has no token of that name.
var ErrUnknownToken = errors.New("no such token")

// ErrNoToken says that waiting might have helped, but the time was up.
var ErrNoToken = errors.New("no token yet")

// NotYetError says that there is no good token of a name now, and when to ask again.
type NotYetError struct {
	Token   string
	Expired time.Time     // when the last token ended; zero where there never was one
	Cause   string        // why there is no newer one; "" where that is not known
	RetryIn time.Duration // at least a second, in whole seconds: what a Retry-After may say
}

// Error implements error.
func (e *NotYetError) Error() string {
	how := ErrNoToken.Error()
	if !e.Expired.IsZero() {
		how = "it expired at " + e.Expired.Round(0).UTC().Format(time.RFC3339) + ", and there is no newer one yet"
	}
	if e.Cause != "" {
		how += ": " + e.Cause
	}
	return fmt.Sprintf("token %q: %s; ask again in %.0fs", e.Token, how, e.RetryIn.Seconds())
}

// Unwrap lets callers branch on [ErrNoToken].
func (e *NotYetError) Unwrap() error { return ErrNoToken }

// HeldBackError says that a refresh was not made, because no request may be sent now, and when to
// ask again.
type HeldBackError struct {
	Token   string
	Reason  policy.Reason
	RetryIn time.Duration // at least a second, in whole seconds
}

// Error implements error.
func (e *HeldBackError) Error() string {
	why := "the last request has just failed"
	switch e.Reason {
	case policy.ServerAsked:
		why = "the server asked for no requests now"
	case policy.TooMany:
		why = fmt.Sprintf("%d requests were sent within %v", policy.MaxInWindow, policy.Window)
	}
	return fmt.Sprintf("refreshing token %q: %s; ask again in %.0fs", e.Token, why, e.RetryIn.Seconds())
}

// ChallengeError says why a claims challenge was refused. Nothing has changed.
type ChallengeError struct {
	Token  string
	Reason string
}

// Error implements error.
func (e *ChallengeError) Error() string {
	return fmt.Sprintf("claims challenge for token %q refused: %s", e.Token, e.Reason)
}

func unknownToken(name string) error { return fmt.Errorf("token %q: %w", name, ErrUnknownToken) }

// Token returns a token that is good now. Its error is [ErrUnknownToken] or a [*NotYetError].
func (a *Agent) Token(name string) (token.Token, error) {
	part := a.parts.token(name)
	if part == nil {
		return token.Token{}, unknownToken(name)
	}
	return part.token()
}

// token returns the token if it is good now, else a [*NotYetError].
func (t *tokenPart) token() (token.Token, error) {
	v, now := t.keeper.View(), time.Now()
	if v.Token.ValidAt(now) {
		return v.Token, nil
	}
	e := &NotYetError{Token: t.name(), Expired: v.Token.Expiry, RetryIn: policy.WholeSeconds(v.Gate.NextRequest(v.NextAt, now).Sub(now))}
	if e.Expired.IsZero() {
		e.Expired = v.Earlier.Expiry
	}
	e.Cause, _ = t.keeper.Cause()
	return token.Token{}, e
}

// Refresh has a token refreshed now, and waits until ctx ends for how that went. It may override
// credagent's own backoff, but nothing that the server asked for and no ceiling: its error is then a
// [*HeldBackError]. Whoever asks while a request is under way shares its answer. An unknown name is
// [ErrUnknownToken].
func (a *Agent) Refresh(ctx context.Context, name string) (status.Refresh, error) {
	part := a.parts.token(name)
	if part == nil {
		return status.Refresh{}, unknownToken(name)
	}
	outcome, v, hold := part.keeper.Refresh(ctx)
	if hold.For > 0 {
		return status.Refresh{}, &HeldBackError{Token: name, Reason: hold.Reason, RetryIn: policy.WholeSeconds(hold.For)}
	}
	if outcome == status.Pending { // a reload may have replaced the keeper, or taken the token away
		if part = a.parts.token(name); part == nil {
			return status.Refresh{}, unknownToken(name)
		}
		v = part.keeper.View()
	}
	r := status.Refresh{
		Token:     name,
		Outcome:   outcome,
		Expiry:    status.Instant(v.Token.Expiry),
		RefreshAt: status.Instant(v.Gate.NextRequest(v.NextAt, time.Now())),
	}
	if r.Expiry != nil {
		r.ExpiresOn = r.Expiry.Unix()
	}
	if f := v.Failure; f != nil && outcome != status.Pending {
		r.Error, r.Advice, r.Refused = f.Error(), f.Advice, f.RefusesClient && !f.Local
	}
	return r, nil
}

// Challenge takes the WWW-Authenticate value with which a resource server rejected a token, and
// asks for a new one at once, with the claims that it names. tokenSHA256 is the SHA-256 of the
// rejected access token in hexadecimal, "" where that is not known. However many report a challenge,
// it is answered by one request; what was answered already is no error. An error is [ErrUnknownToken]
// or a [*ChallengeError], or that of ctx.
func (a *Agent) Challenge(ctx context.Context, name, wwwAuthenticate, tokenSHA256 string) error {
	part := a.parts.token(name)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case part == nil:
		return unknownToken(name)
	}
	if err := part.keeper.Challenge(wwwAuthenticate, tokenSHA256); err != nil {
		return &ChallengeError{Token: name, Reason: err.Error()}
	}
	a.changed()
	return nil
}
