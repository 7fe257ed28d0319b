package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/credagent/credagent/agent/keeper"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/token"
)

// ErrUnknownToken says that the configuration has no token of that name.
var ErrUnknownToken = errors.New("no such token")

// ErrNoToken says that waiting might have helped, but the time was up.
var ErrNoToken = keeper.ErrNoToken

// What callers branch on.
type (
	// NotYetError says that there is no good token of a name now, and when to ask again.
	NotYetError = keeper.NotYetError
	// HeldBackError says that a refresh was not made, because no request may be sent now.
	HeldBackError = keeper.HeldBackError
	// ChallengeError says why a claims challenge was refused. Nothing has changed.
	ChallengeError = keeper.ChallengeError
)

func unknownToken(name string) error { return fmt.Errorf("token %q: %w", name, ErrUnknownToken) }

// Token returns a token that is good now. Its error is [ErrUnknownToken] or a [*NotYetError].
func (a *Agent) Token(name string) (token.Token, error) {
	k := a.parts.keeper(name)
	if k == nil {
		return token.Token{}, unknownToken(name)
	}
	return k.Token()
}

// Refresh has a token refreshed now, and waits until ctx ends for how that went. It may override
// credagent's own backoff, but nothing that the server asked for and no ceiling: its error is then a
// [*HeldBackError]. Whoever asks while a request is under way shares its answer. An unknown name is
// [ErrUnknownToken].
func (a *Agent) Refresh(ctx context.Context, name string) (status.Refresh, error) {
	k := a.parts.keeper(name)
	if k == nil {
		return status.Refresh{}, unknownToken(name)
	}
	r, err := k.Refresh(ctx)
	if err != nil || r.Outcome != status.Pending {
		return r, err
	}
	if k = a.parts.keeper(name); k == nil { // a reload may have replaced it, or taken it away
		return status.Refresh{}, unknownToken(name)
	}
	return k.Pending(), nil
}

// Challenge takes the WWW-Authenticate value with which a resource server rejected a token, and
// asks for a new one at once, with the claims that it names. tokenSHA256 is the SHA-256 of the
// rejected access token in hexadecimal, "" where that is not known. However many report a challenge,
// it is answered by one request; what was answered already is no error. An error is [ErrUnknownToken]
// or a [*ChallengeError], or that of ctx.
func (a *Agent) Challenge(ctx context.Context, name, wwwAuthenticate, tokenSHA256 string) error {
	k := a.parts.keeper(name)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case k == nil:
		return unknownToken(name)
	}
	accepted, err := k.Challenge(wwwAuthenticate, tokenSHA256)
	if err != nil {
		return err
	}
	if accepted { // a reload may have just put another keeper in its place, which knows of the same
		if successor := a.parts.keeper(name); successor != nil {
			successor.Wake()
		}
	}
	a.changed()
	return nil
}
