package devserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"time"
)

const (
	clockLeeway      = 5 * time.Second // for iat and nbf of a client whose clock is ahead
	maxAssertionLife = time.Hour       // of an assertion that the client signs itself
)

// authenticate identifies the client, by exactly one method (RFC 6749, 2.3).
func (s *Server) authenticate(q *tokenRequest) (Client, *refusal) {
	if refused := q.checkMethods(); refused != nil {
		return Client{}, refused
	}
	client, known := s.clients.get(q.client)
	if !known {
		return Client{}, unknownClient(q)
	}
	switch q.methods[0] {
	case methodBasic:
		return client, checkSecret(client, q.basic.secret)
	case methodPost:
		return client, checkSecret(client, q.form.Get("client_secret"))
	case methodTLS:
		return client, checkCertificate(q, client)
	default:
		return client, s.checkAssertion(q, client)
	}
}

func (q *tokenRequest) checkMethods() *refusal {
	switch {
	case len(q.methods) == 0:
		return invalidClient(7000216, "client_assertion, client_secret or an Authorization header is required")
	case len(q.methods) > 1:
		return invalidRequest("more than one way of client authentication is used")
	case q.methods[0] == methodBasic && !q.basic.valid:
		return invalidClient(7000215, "the Authorization header is not Basic with form-urlencoded client_id and secret")
	case q.methods[0] == methodBasic && q.form.Has("client_id") && q.form.Get("client_id") != q.basic.id:
		return invalidRequest("client_id is not the one of the Authorization header")
	case q.client == "":
		return invalidRequest("client_id is missing")
	}
	return nil
}

func unknownClient(q *tokenRequest) *refusal {
	if !q.at.entra {
		return invalidClient(0, "there is no client '%s'", q.client)
	}
	refused := invalidClient(700016, "Application with identifier '%s' was not found in the directory '%s'", q.client, q.at.tenant)
	refused.status, refused.code = http.StatusBadRequest, "unauthorized_client"
	return refused
}

func checkSecret(client Client, given string) *refusal {
	want, got := sha256.Sum256([]byte(client.Secret.Reveal())), sha256.Sum256([]byte(given))
	if client.Secret.IsZero() || subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return invalidClient(7000215, "Invalid client secret provided for client '%s'", client.ID)
	}
	return nil
}

// checkCertificate checks the certificate of the TLS connection, whose key the handshake has proved:
// it must be one of the client's own (RFC 8705, 2.2).
func checkCertificate(q *tokenRequest, client Client) *refusal {
	for _, registered := range client.Certificates {
		if registered.Equal(q.peer) {
			v := client.certVerifier(registered)
			q.keyID = v.id
			return v.checkValidity(time.Now())
		}
	}
	return invalidClient(700027, "the TLS certificate is none that is registered for client '%s'", client.ID)
}

func (s *Server) checkAssertion(q *tokenRequest, client Client) *refusal {
	if !q.form.Has("client_assertion") || !q.form.Has("client_assertion_type") {
		return invalidRequest("client_assertion and client_assertion_type come together")
	}
	if kind := q.form.Get("client_assertion_type"); kind != assertionType && kind != spiffeType {
		return invalidClient(700021, "client_assertion_type is not %s", assertionType)
	}
	if g, issued := s.tokens.find(q.form.Get("client_assertion")); issued && q.at.entra {
		q.methods[0] = methodFederated
		return checkAgent(g, client)
	}
	a, err := parseAssertion(q.form.Get("client_assertion"))
	if err != nil {
		return invalidClient(50027, "the client assertion is malformed: %s", err)
	}
	if a.claims.Issuer != client.ID {
		q.methods[0] = methodFederated
		return checkFederated(a, client)
	}
	return s.checkOwn(q, a, client)
}

// checkOwn checks an assertion that the client has signed itself (RFC 7523, 3).
func (s *Server) checkOwn(q *tokenRequest, a assertion, client Client) *refusal {
	if a.claims.Subject != client.ID {
		return invalidClient(700025, "the assertion's sub is not the client's id")
	}
	if !q.at.manner.accepts(a.header.Algorithm) {
		return invalidClient(0, "an assertion signed with %s is not accepted", a.header.Algorithm)
	}
	key, refused := client.verify(a, q.at.entra)
	if refused != nil {
		return refused
	}
	q.keyID = key.id
	endpoint, issuer := s.URL()+q.at.path, s.URL()+q.at.issuerPath
	if !a.claims.Audience.has(endpoint) && !a.claims.Audience.has(issuer) {
		return invalidClient(700023, "the assertion's aud is neither '%s' nor '%s'", endpoint, issuer)
	}
	now := time.Now()
	if refused := a.claims.checkTimes(now); refused != nil {
		return refused
	}
	if a.claims.expiry().Sub(now) > maxAssertionLife {
		return invalidClient(700024, "the assertion's exp is more than %s away", maxAssertionLife)
	}
	if a.claims.ID == "" {
		return invalidClient(700027, "the assertion has no jti")
	}
	if !s.replays.first(replayKey{client.ID, a.claims.ID}, a.claims.expiry(), now) {
		return invalidClient(700027, "the assertion's jti has been used before")
	}
	return nil
}

// checkFederated checks an assertion that a third party has signed. It may be used repeatedly: a projected service
// account token stays in its file for an hour.
func checkFederated(a assertion, client Client) *refusal {
	refused := invalidClient(700211, "no issuer '%s' is registered for client '%s'", a.claims.Issuer, client.ID)
	for _, issuer := range client.AssertionIssuers {
		if issuer.Issuer != a.claims.Issuer {
			continue
		}
		if refused = issuer.check(a); refused == nil {
			return nil
		}
	}
	return refused
}

func (i AssertionIssuer) check(a assertion) *refusal {
	switch {
	case i.Subject != a.claims.Subject:
		return invalidClient(700213, "no matching federated identity for the assertion's sub '%s'", a.claims.Subject)
	case !a.claims.Audience.has(i.Audience):
		return invalidClient(700212, "no matching federated identity for the assertion's aud, which should be '%s'", i.Audience)
	case !a.signedBy(i.Key):
		return invalidClient(7000272, "the assertion's signature is not its issuer's")
	}
	return a.claims.checkTimes(time.Now())
}
