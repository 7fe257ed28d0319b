package devserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// endpoint is one of the server's token endpoints.
type endpoint struct {
	path       string
	issuerPath string
	tenant     string
	entra      bool    // answers like Microsoft Entra ID
	manner     *Manner // the server that it imitates; nil is the plain one
}

// plainEndpoint is /token, or /TENANT/token for the issuer URL/TENANT.
func plainEndpoint(tenant string) endpoint {
	if tenant == "" {
		return endpoint{path: "/token"}
	}
	issuer := "/" + url.PathEscape(tenant)
	return endpoint{path: issuer + "/token", issuerPath: issuer, tenant: tenant}
}

// entraEndpoint is /TENANT/oauth2/v2.0/token for the issuer URL/TENANT/v2.0.
func entraEndpoint(tenant string) endpoint {
	root := "/" + url.PathEscape(tenant)
	return endpoint{path: root + "/oauth2/v2.0/token", issuerPath: root + "/v2.0", tenant: tenant, entra: true}
}

// serveToken answers token requests. A request is logged before its answer is sent, so that a client that has the
// answer finds it in the log.
func (s *Server) serveToken(at func(tenant string) endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		arrival := s.journal.arrive()
		q := receive(r, at(r.PathValue("tenant")))
		q.arrival = arrival
		fault := s.faults.take(q.client)
		reply, substituted := s.substitute(fault, q)
		if !substituted {
			reply = s.reply(q, fault)
		}
		s.journal.record(arrival, describe(q, fault, reply))
		s.deliver(w, r, reply, fault)
		if fault.Kind == Signals {
			_, _ = s.Signal(Signal{Event: fault.Body, Client: q.client}) // a known event about a client: never fails
		}
	}
}

func describe(q *tokenRequest, fault Fault, reply answer) Request {
	entry := q.entry()
	fault.Count = 0
	entry.Fault = fault.String()
	entry.Status = reply.status
	entry.Outcome = reply.outcome
	entry.RetryAfter = reply.header.Get("Retry-After")
	return entry
}

func (s *Server) reply(q *tokenRequest, fault Fault) answer {
	client, refused := s.admit(q)
	if refused == nil {
		refused = q.at.manner.missing(q.form)
	}
	if refused != nil {
		return q.refusalAnswer(refused)
	}
	scope, refused := q.grantedScope(client)
	if refused != nil {
		return q.refusalAnswer(refused)
	}
	return s.issue(q, scope, fault)
}

// admit checks everything about a request except what it asks for.
func (s *Server) admit(q *tokenRequest) (Client, *refusal) {
	if q.refused != nil {
		return Client{}, q.refused
	}
	if !s.knowsTenant(q.at) {
		return Client{}, unknownTenant(q.at)
	}
	switch grant := q.form.Get("grant_type"); grant {
	case grantClientCredentials:
		return s.authenticate(q)
	case grantJWTBearer:
		return s.admitAssertion(q)
	case grantTokenExchange:
		return s.admitExchange(q)
	case "":
		return Client{}, invalidRequest("The request body must contain the following parameter: 'grant_type'")
	default:
		return Client{}, unsupportedGrant(grant)
	}
}

func (s *Server) knowsTenant(at endpoint) bool {
	return at.tenant == "" || s.options.Tenants == nil || slices.Contains(s.options.Tenants, at.tenant)
}

func unknownTenant(at endpoint) *refusal {
	refused := &refusal{status: http.StatusNotFound, code: "invalid_request", aadsts: 90002,
		description: fmt.Sprintf("Tenant '%s' not found", at.tenant)}
	if at.entra {
		refused.status = http.StatusBadRequest
	}
	return refused
}

// grantedScope checks what the request asks for, and returns the token's scope.
func (q *tokenRequest) grantedScope(client Client) (string, *refusal) {
	if asked := q.form.Get("claims"); asked != "" && !isObject(asked) {
		return "", invalidRequest("claims is not a JSON object")
	}
	scope := q.form.Get("scope")
	if q.at.manner.readsClaims() && q.scopeClaim != nil {
		scope = *q.scopeClaim
	}
	if q.at.entra {
		scope = withoutOIDC(scope)
	}
	if scope == "" {
		return q.impliedScope(client)
	}
	for part := range strings.SplitSeq(scope, " ") {
		if refused := q.checkScope(part, client); refused != nil {
			return "", refused
		}
	}
	return scope, nil
}

// withoutOIDC removes the scopes of OpenID Connect, which MSAL always adds and which Entra ignores in a request
// without a user.
func withoutOIDC(scope string) string {
	asked := slices.DeleteFunc(strings.Split(scope, " "), func(part string) bool {
		return slices.Contains([]string{"openid", "profile", "email", "offline_access"}, part)
	})
	return strings.Join(asked, " ")
}

func isObject(text string) bool {
	var object map[string]json.RawMessage
	return json.Unmarshal([]byte(text), &object) == nil && object != nil
}

// impliedScope returns the scope of a request that has only an audience or a resource.
func (q *tokenRequest) impliedScope(client Client) (string, *refusal) {
	if q.at.entra {
		return "", invalidRequest("The request body must contain the following parameter: 'scope'")
	}
	if q.at.manner == nil && !q.form.Has("audience") && !q.form.Has("resource") {
		return "", invalidScope("the request has neither scope nor audience nor resource")
	}
	return strings.Join(client.Scopes, " "), nil
}

func (q *tokenRequest) checkScope(scope string, client Client) *refusal {
	switch {
	case scope == "" || strings.ContainsFunc(scope, notInScope):
		return invalidScope("scope is not a list of scope tokens with one space between them")
	case q.at.entra && q.form.Get("grant_type") == grantClientCredentials && !strings.HasSuffix(scope, "/.default"):
		return &refusal{status: http.StatusBadRequest, code: "invalid_scope", aadsts: 1002012, description: fmt.Sprintf(
			"The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier", scope)}
	case client.Scopes != nil && !slices.Contains(client.Scopes, scope):
		return invalidScope(fmt.Sprintf("the client may not have the scope '%s'", scope))
	}
	return nil
}

// notInScope reports whether c may not stand in a scope token (RFC 6749, 3.3).
func notInScope(c rune) bool { return c <= ' ' || c == '"' || c == '\\' || c > '~' }

// issue makes a token and the answer that carries it (RFC 6749, 5.1).
func (s *Server) issue(q *tokenRequest, scope string, fault Fault) answer {
	life := s.options.TTL
	if fault.Kind == Short {
		life = fault.Delay
	}
	now := time.Now()
	g := grant{client: q.client, scope: scope, issued: now, expiry: now.Add(life), notBefore: notBefore(q.form.Get("claims")), agent: q.agent(scope)}
	token := s.newToken(g)
	s.tokens.add(token, g)
	fields := map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int64(life / time.Second)}
	if s.options.RefreshIn > 0 {
		fields["refresh_in"] = int64(s.options.RefreshIn / time.Second)
	}
	if q.at.entra {
		fields["ext_expires_in"] = fields["expires_in"]
	} else if scope != "" {
		fields["scope"] = scope
	}
	q.dressExchange(fields)
	q.at.manner.dress(fields)
	fault.distort(fields)
	reply := q.jsonAnswer(http.StatusOK, fields)
	reply.outcome = outcomeIssued
	return reply
}
