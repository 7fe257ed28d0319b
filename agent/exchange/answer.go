// Package exchange knows where a client's token requests go and what their results mean: a grant, or a failure of a
// class, with advice for a person.
//
// It reads servers' answers, including issuers' metadata, and decides nothing: the gate waits and retries. One
// caveat: an [Endpoint] asks the issuer itself if its metadata is missing or old, so its methods may take as long as
// a request.
package exchange

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/internal/redact"
)

// Answer is the result of one token request: a grant, or a failure.
type Answer struct {
	Sent    time.Time // when the request was sent; zero when it was not
	At      time.Time // when the answer arrived
	Grant   oauth.Grant
	Failure *Failure
	Outcome policy.Outcome
	Ahead   time.Duration // by how much the server's clock is ahead, according to the answer
	Capped  bool          // more than policy.MaxRetryAfter was asked for
	Unread  string        // a header with an unreadable wait; "" for none
	Claims  string        // the claims that the server wants in the next request; "" for none
	Cut     bool          // the agent's own stop cut the request off, which is no information
	// Switched means that the client now uses its fallback, so the request can be retried at once.
	Switched bool
}

// Read interprets the result of an exchange. limit is its time limit, at is when it ended, and grantType is the
// request's grant_type.
func Read(grantType string, reply provider.Reply, err error, limit time.Duration, at time.Time) Answer {
	if err != nil {
		return unanswered(err, limit, at)
	}
	return readReply(reply, limit, at).forGrant(grantType)
}

// forGrant replaces general advice about a refusal by advice for the grant type of the request, if there is any.
func (a Answer) forGrant(grantType string) Answer {
	if a.Failure == nil || a.Failure.Local || a.Failure.Status == 0 {
		return a
	}
	general, advice := adviceFor(a.Failure.Class, a.Failure.Code), grantAdvice(grantType, a.Failure)
	if advice == "" || !strings.HasSuffix(a.Failure.Advice, general) {
		return a
	}
	failure := *a.Failure
	failure.Advice = strings.TrimSuffix(failure.Advice, general) + advice // the advice about a wrong clock stays in front
	a.Failure = &failure
	return a
}

// readReply interprets a server's answer, whether from a token endpoint or a failed metadata request.
func readReply(reply provider.Reply, limit time.Duration, at time.Time) Answer {
	a := Answer{At: at}
	a.Ahead, _ = policy.Skew(reply.Header.Get("Date"), at)
	if reply.TimedOut {
		a.Outcome.TimedOut = limit
	}
	if reply.Status/100 == 2 && reply.BodyError == "" {
		grant, err := oauth.ParseGrant(reply.Body, at)
		if err == nil {
			a.Grant = grant
			return a
		}
		var unusable *oauth.UnusableTypeError
		if errors.As(err, &unusable) {
			a.Fail(&Failure{Class: policy.Configuration, Status: reply.Status, Message: err.Error(),
				Advice: "configure the server to issue Bearer tokens to this client"}, false)
			return a
		}
		if said, isError := oauth.ParseError(reply.Body); !isError {
			message := err.Error()
			if said.Description != "" {
				message += ": " + said.Description
			}
			a.readWait(reply)
			refusal := policy.Refusal{Status: reply.Status, RetryAfter: a.Outcome.HasRetryAfter}
			a.Fail(&Failure{Class: policy.Classify(refusal), Status: reply.Status, Message: message}, true)
			return a
		}
	}
	a.refused(reply)
	return a
}

// Hide hides values in an answer that is not a grant: a server may repeat what it received or issued, and its text is
// shown. The provider, which hides the credential, does not know the other values.
func Hide(reply provider.Reply, values ...string) provider.Reply {
	hidden := redact.New(values...)
	if hidden.Empty() {
		return reply
	}
	if _, err := oauth.ParseGrant(reply.Body, time.Now()); err == nil {
		return reply
	}
	reply.Body, reply.BodyError, reply.Header = hidden.Bytes(reply.Body), hidden.Text(reply.BodyError), reply.Header.Clone()
	for _, values := range reply.Header {
		for i, value := range values {
			values[i] = hidden.Text(value)
		}
	}
	return reply
}

// refused reads an answer that is not a grant.
func (a *Answer) refused(reply provider.Reply) {
	wire := errorOf(reply)
	a.readWait(reply)
	refusal := policy.Refusal{Status: reply.Status, Error: wire.Code, Codes: wire.AADSTS, RetryAfter: a.Outcome.HasRetryAfter, Words: wire.Description}
	a.Claims = wire.Claims
	failure := &Failure{
		Class:         policy.Classify(refusal),
		Status:        reply.Status,
		Code:          wire.Code,
		Message:       wire.Description,
		AADSTS:        wire.AADSTS,
		CorrelationID: first(wire.CorrelationID, reply.Header.Get("Client-Request-Id"), reply.Header.Get("X-Correlation-Id"), reply.Header.Get("X-Request-Id")),
		TraceID:       first(wire.TraceID, reply.Header.Get("X-Ms-Request-Id")),
		RefusesClient: refusal.RefusesClient(),
	}
	switch {
	case reply.BodyError != "":
		failure.Message = reply.BodyError
	case failure.Code == "":
		failure.Message = unreadable(reply, wire.Description)
	}
	failure.Advice = adviceFor(failure.Class, failure.Code)
	if failure.Class == policy.Configuration && failure.Code == "" {
		failure.Advice = "check the token endpoint (token_url or issuer), and whether this host may use it"
	}
	if failure.Class.Lasting() && wantsOtherMethod(wire.Description) {
		failure.Advice = "the server wants the client to authenticate in another way: check auth_method in the credential's config"
	}
	if advice, known := refusal.Advice(); known && failure.Class == advice.Class {
		failure.Advice = advice.Do
	}
	if failure.Class == policy.Credential && policy.Skewed(a.Ahead) { // the key may be good
		failure.Advice = fmt.Sprintf("set the clock: this host's is %v the server's, which makes every assertion invalid; if that does not help, %s", Apart(a.Ahead), failure.Advice)
	}
	a.Fail(failure, refusal.ClientWide())
}

// readWait reads how long the server asks to wait.
func (a *Answer) readWait(reply provider.Reply) {
	asked := policy.RetryAfter(reply.Header, reply.Status, a.At)
	a.Outcome.RetryAfter, a.Outcome.HasRetryAfter, a.Capped, a.Unread = asked.For, asked.Known, asked.Capped, asked.Unread
}

// Fail turns the answer into a failure, of every token of the client or only of the requested one.
func (a *Answer) Fail(f *Failure, clientWide bool) {
	a.Failure = f
	a.Outcome.Class = f.Class
	a.Outcome.ClientWide = clientWide
}

// Apart describes the difference between this host's clock and the server's.
func Apart(ahead time.Duration) string {
	if ahead > 0 {
		return ahead.String() + " behind"
	}
	return ahead.Abs().String() + " ahead of"
}

// errorOf reads the server's error, wherever it is in the answer.
func errorOf(reply provider.Reply) oauth.Error {
	said, isError := oauth.ParseError(reply.Body)
	if isError && said.Description != "" {
		return said
	}
	code, words := oauth.ChallengeWords(reply.Header.Values("Www-Authenticate"))
	said.Code, said.Description = first(said.Code, code), first(said.Description, words)
	if said.Description == "" && !isError && reply.Status >= http.StatusBadRequest {
		said.Description = oauth.Words(reply.Body)
	}
	return said
}

// unreadable describes what arrived instead of an OAuth error, with the server's own words.
func unreadable(reply provider.Reply, words string) string {
	switch {
	case reply.Status >= 300 && reply.Status < 400:
		return "the server answered with a redirect, which credagent does not follow: check the token endpoint's URL"
	case reply.Status == http.StatusNotFound && words == "":
		return "there is nothing at this URL"
	}
	said := "with no OAuth error in the answer"
	reason := http.StatusText(reply.Status)
	switch {
	case reason == "" && words != "":
		return words
	case words != "":
		return reason + ": " + words
	case reason == "":
		return said
	}
	return reason + ", " + said
}

// unanswered interprets the error of an exchange without an answer.
func unanswered(err error, limit time.Duration, at time.Time) Answer {
	a := Answer{At: at}
	var failure *provider.Failure
	if !errors.As(err, &failure) {
		failure = &provider.Failure{Kind: provider.KindProvider, Message: err.Error()}
	}
	switch failure.Kind {
	case provider.KindConfig:
		a.Fail(&Failure{Class: policy.Configuration, Message: failure.Message, Local: true,
			Advice: "fix the credential's config"}, true)
	case provider.KindCredential:
		a.Fail(&Failure{Class: policy.Credential, Message: failure.Message, Local: true,
			Advice: "fix the credential's files; nothing was sent to the server"}, true)
	case provider.KindUnavailable:
		a.readWait(provider.Reply{Status: failure.Status, Header: failure.Header})
		a.Fail(&Failure{Class: policy.Transient, Message: failure.Message, Local: true,
			Advice: "nothing was sent to the server: what hands the credential out did not"}, true)
	case provider.KindRefused:
		a.Fail(&Failure{Class: policy.Credential, Message: failure.Message, RefusesClient: true,
			Advice: adviceFor(policy.Credential, "")}, true)
	case provider.KindTimeout:
		a.Fail(&Failure{Class: policy.Transient, Message: failure.Message}, true)
		a.Outcome.TimedOut = limit
	default:
		a.Fail(&Failure{Class: policy.Transient, Message: failure.Message}, true)
	}
	return a
}

func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return oauth.Printable(value)
		}
	}
	return ""
}
