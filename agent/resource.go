package agent

import (
	"errors"
	"fmt"
	"strings"

	"github.com/credagent/credagent/token"
)

// What keeps the identity endpoint from handing out a token, however long one waits.
var (
	ErrUnknownResource = errors.New("no token is configured for the resource")
	ErrOtherClient     = errors.New("the resource's token is another client's")
)

// TokenFor returns the token that is good now for a resource of the identity endpoint. A slash at
// the end of the resource does not matter, unless the configuration has it both ways. A clientID
// that is not empty has to be that of the token's client. The error is [ErrUnknownResource],
// [ErrOtherClient] or a [*NotYetError].
func (a *Agent) TokenFor(resource, clientID string) (token.Token, error) {
	part := a.parts.tokenFor(resource)
	if part == nil {
		return token.Token{}, fmt.Errorf("resource %q: %w", resource, ErrUnknownResource)
	}
	// Entra's are GUIDs, which people write in either case.
	if clientID != "" && !strings.EqualFold(clientID, part.client.cfg.ClientID) {
		return token.Token{}, fmt.Errorf("resource %q, client_id %q: %w", resource, clientID, ErrOtherClient)
	}
	return part.token()
}

func (p *parts) tokenFor(resource string) *tokenPart {
	identity := p.settings().Identity
	if identity == nil {
		return nil
	}
	name, ok := identity.TokenFor[resource]
	if !ok {
		other, slash := strings.CutSuffix(resource, "/")
		if !slash {
			other += "/"
		}
		name, ok = identity.TokenFor[other]
	}
	if !ok {
		return nil
	}
	return p.token(name)
}
