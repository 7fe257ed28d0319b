package devserver

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// invalidGrant is the refusal of an assertion or a token that is the grant (RFC 7521, 4.1.1; RFC 6749, 5.2).
func invalidGrant(aadsts int, format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_grant", aadsts: aadsts, description: fmt.Sprintf(format, args...)}
}

// asGrant makes what is wrong with an assertion that of a grant.
func asGrant(r *refusal) *refusal {
	if r == nil {
		return nil
	}
	return invalidGrant(r.aadsts, "%s", r.description)
}

// identify finds the client of a request whose grant says enough: with client authentication where there is
// any, or where the client must.
func (s *Server) identify(q *tokenRequest) (Client, *refusal) {
	client, known := s.clients.get(q.client)
	if len(q.methods) == 0 && known && !client.Confidential && !q.at.manner.confidential() {
		return client, nil
	}
	if len(q.methods) == 0 && !known && q.client != "" {
		return Client{}, unknownClient(q)
	}
	return s.authenticate(q)
}

// confidential reports whether the server of this manner exchanges no token for a client that does not
// authenticate.
func (m *Manner) confidential() bool { return m != nil && m.secretBeside }

// admitAssertion checks a request whose grant is an assertion (RFC 7523, 2.1 and 3).
func (s *Server) admitAssertion(q *tokenRequest) (Client, *refusal) {
	if q.at.entra {
		return Client{}, unsupportedGrant(grantJWTBearer)
	}
	if !q.form.Has("assertion") {
		return Client{}, invalidRequest("The request body must contain the following parameter: 'assertion'")
	}
	a, err := parseAssertion(q.form.Get("assertion"))
	if err != nil {
		return Client{}, invalidGrant(malformedAADSTS, "the assertion is malformed: %s", err)
	}
	client, refused := s.identify(q)
	switch {
	case refused != nil:
		return Client{}, refused
	case a.claims.Issuer != client.ID:
		return Client{}, invalidGrant(wrongSignatureAADSTS, "the assertion's iss is not the client")
	}
	if refused := s.checkGrant(q, a, client); refused != nil {
		return Client{}, refused
	}
	q.subject, q.scopeClaim = a.claims.Subject, a.claims.Scope
	if q.at.manner.readsClaims() && q.scopeClaim == nil {
		return Client{}, invalidScope("the assertion has no scope")
	}
	return client, nil
}

func (s *Server) checkGrant(q *tokenRequest, a assertion, client Client) *refusal {
	if !q.at.manner.accepts(a.header.Algorithm) {
		return invalidGrant(wrongSignatureAADSTS, "an assertion signed with %s is not accepted", a.header.Algorithm)
	}
	key, refused := client.verify(a, false)
	if refused != nil {
		return asGrant(refused)
	}
	q.keyID = key.id
	if !s.isAudience(q.at, a.claims.Audience) {
		return invalidGrant(wrongAudienceAADSTS, "the assertion's aud is not this server")
	}
	if refused := a.claims.checkTimes(time.Now()); refused != nil {
		return asGrant(refused)
	}
	if longest := q.at.manner.longestGrant(); time.Until(a.claims.expiry()) > longest {
		return invalidGrant(wrongTimeAADSTS, "the assertion's exp is more than %s away", longest)
	}
	if a.claims.ID != "" && !s.replays.first(replayKey{client.ID, a.claims.ID}, a.claims.expiry(), time.Now()) {
		return invalidGrant(wrongSignatureAADSTS, "the assertion's jti has been used before")
	}
	return checkSubject(q.at, a.claims.Subject, client)
}

// isAudience reports whether an assertion is for this server, by one of its names.
func (s *Server) isAudience(at endpoint, aud audience) bool {
	names := []string{s.URL() + at.path, s.URL() + at.issuerPath}
	if at.manner != nil {
		names = append(names, at.manner.audiences...)
	}
	return slices.ContainsFunc(names, aud.has)
}

func checkSubject(at endpoint, subject string, client Client) *refusal {
	switch {
	case subject == "" && at.manner != nil && at.manner.anonymous:
		return nil
	case subject == "":
		return invalidGrant(wrongSubjectAADSTS, "the assertion has no sub")
	case client.Subjects != nil && !slices.Contains(client.Subjects, subject):
		return invalidGrant(wrongSubjectAADSTS, "the client may not ask for '%s'", subject)
	}
	return nil
}

// The token types (RFC 8693, 3).
const (
	tokenTypePrefix = "urn:ietf:params:oauth:token-type:"
	accessTokenType = tokenTypePrefix + "access_token"
)

// admitExchange checks a request that exchanges a token (RFC 8693, 2.1): one that this server has issued, or
// a JWT of an issuer whom the client is registered with.
func (s *Server) admitExchange(q *tokenRequest) (Client, *refusal) {
	if q.at.entra {
		return Client{}, unsupportedGrant(grantTokenExchange)
	}
	for _, name := range []string{"subject_token", "subject_token_type"} {
		if !q.form.Has(name) {
			return Client{}, invalidRequest(fmt.Sprintf("The request body must contain the following parameter: '%s'", name))
		}
	}
	client, refused := s.identify(q)
	if refused != nil {
		return Client{}, refused
	}
	if kind := q.form.Get("subject_token_type"); !strings.HasPrefix(kind, tokenTypePrefix) {
		return Client{}, invalidRequest(fmt.Sprintf("the subject_token_type '%s' is not known", kind))
	}
	if g, issued := s.tokens.find(q.form.Get("subject_token")); issued {
		q.subject = g.client
		return client, nil
	}
	a, err := parseAssertion(q.form.Get("subject_token"))
	if err != nil {
		return Client{}, q.invalidSubject("the subject_token is neither one of this server nor a JWT: %s", err)
	}
	if refused := checkFederated(a, client); refused != nil {
		return Client{}, q.invalidSubject("%s", refused.description)
	}
	q.subject = a.claims.Subject
	return client, nil
}

// invalidSubject is the refusal of a subject token: invalid_request (RFC 8693, 2.2.2), but for Google's.
func (q *tokenRequest) invalidSubject(format string, args ...any) *refusal {
	if q.at.manner != nil && q.at.manner.Name == "google" {
		return invalidGrant(0, format, args...)
	}
	return invalidRequest(fmt.Sprintf(format, args...))
}

// dressExchange adds what only the answer to an exchange has (RFC 8693, 2.2.1).
func (q *tokenRequest) dressExchange(fields map[string]any) {
	if q.form.Get("grant_type") != grantTokenExchange {
		return
	}
	fields["issued_token_type"] = accessTokenType
	if wanted := q.form.Get("requested_token_type"); wanted != "" && wanted != accessTokenType {
		fields["issued_token_type"], fields["token_type"] = wanted, "N_A"
	}
}

func unsupportedGrant(grant string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "unsupported_grant_type", aadsts: 70003,
		description: fmt.Sprintf("the grant type '%s' is not supported", grant)}
}
