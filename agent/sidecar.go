package agent

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/token"
)

// Why the auth sidecar does not hand out a token, however long the caller waits; see also [ErrOtherClient].
var (
	ErrUnknownAPI  = errors.New("no token is configured for the API")
	ErrOtherScope  = errors.New("the API's token has another scope")
	ErrOtherTenant = errors.New("the API's token is another tenant's")
)

// APIRequest is what a caller of the auth sidecar expects of an API's token. An empty field accepts any.
type APIRequest struct {
	ClientID string
	Tenant   string // as the configuration of the client has it: an id, or a domain name
	Scopes   []string
}

// TokenNameForAPI returns the name, for [Agent.Allows], of the token that serves an API of the auth sidecar. The error
// is [ErrUnknownAPI].
func (a *Agent) TokenNameForAPI(api string) (string, error) {
	if sidecar := a.parts.settings().Sidecar; sidecar != nil {
		if name, ok := sidecar.TokenFor[api]; ok {
			return name, nil
		}
	}
	return "", fmt.Errorf("API %q: %w", api, ErrUnknownAPI)
}

// TokenAs returns the currently valid token of a name, if it meets a request. The error is [ErrUnknownToken], [ErrOtherClient], [ErrOtherTenant], [ErrOtherScope] or a [*NotYetError].
func (a *Agent) TokenAs(name string, want APIRequest) (token.Token, error) {
	part := a.parts.token(name)
	if part == nil {
		return token.Token{}, unknownToken(name)
	}
	client := part.client.cfg
	switch {
	case want.ClientID != "" && !strings.EqualFold(want.ClientID, client.ClientID):
		return token.Token{}, fmt.Errorf("token %q, client_id %q: %w", name, want.ClientID, ErrOtherClient)
	case want.Tenant != "" && !isOfTenant(client, want.Tenant):
		return token.Token{}, fmt.Errorf("token %q, tenant %q: %w", name, want.Tenant, ErrOtherTenant)
	}
	for _, scope := range want.Scopes {
		if !slices.Contains(part.cfg.Scopes, scope) {
			return token.Token{}, fmt.Errorf("token %q, scope %q: %w", name, scope, ErrOtherScope)
		}
	}
	return part.token()
}

// isOfTenant reports whether a client's configuration names a tenant: as Entra ID's, or as a segment of the path of its
// issuer or token endpoint.
func isOfTenant(c *config.Client, tenant string) bool {
	if c.Entra != nil {
		return strings.EqualFold(c.Entra.Tenant, tenant)
	}
	for _, address := range []string{c.Issuer, c.TokenURL} {
		if u, err := url.Parse(address); err == nil && slices.ContainsFunc(strings.Split(u.Path, "/"), func(part string) bool {
			return strings.EqualFold(part, tenant)
		}) {
			return true
		}
	}
	return false
}
