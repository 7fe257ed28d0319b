package gate

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
)

// Answer is how one token request ended: a grant, or a failure.
type Answer struct {
	Sent    time.Time // when the request was sent; zero when it was not
	At      time.Time // when the answer was there
	Grant   oauth.Grant
	Failure *Failure
	Outcome policy.Outcome
	ahead   time.Duration // the server's clock before this host's, as far as the answer says
	capped  bool          // more than policy.MaxRetryAfter was asked for
	cut     bool          // the agent's own end cut the request off, which says nothing
	// Switched says that the client uses its fallback from now on, so that the request can be made
	// again at once.
	Switched bool
}

// Read gives the end of an exchange its meaning. Limit is how long it could have taken, and at when it
// ended.
func Read(reply provider.Reply, err error, limit time.Duration, at time.Time) Answer {
	if err != nil {
		return unanswered(err, limit, at)
	}
	return readReply(reply, limit, at)
}

// readReply gives a server's answer its meaning. Who sent it does not matter: a token endpoint's
// answer and a failed metadata request are read alike.
func readReply(reply provider.Reply, limit time.Duration, at time.Time) Answer {
	a := Answer{At: at}
	a.ahead, _ = policy.Skew(reply.Header.Get("Date"), at)
	if reply.TimedOut {
		a.Outcome.TimedOut = limit
	}
	if reply.Status == http.StatusOK && reply.BodyError == "" {
		grant, err := oauth.ParseGrant(reply.Body)
		if err == nil {
			a.Grant = grant
			return a
		}
		var unusable *oauth.UnusableTypeError
		if errors.As(err, &unusable) {
			a.fail(&Failure{Class: policy.Configuration, Status: reply.Status, Message: err.Error(),
				Advice: "configure the server to issue Bearer tokens to this client"}, false)
			return a
		}
		if _, isError := oauth.ParseError(reply.Body); !isError {
			a.fail(&Failure{Class: policy.Transient, Status: reply.Status, Message: err.Error()}, true)
			return a
		}
	}
	a.refused(reply)
	return a
}

// refused reads an answer that is not a grant.
func (a *Answer) refused(reply provider.Reply) {
	wire, readable := oauth.ParseError(reply.Body)
	refusal := policy.Refusal{Status: reply.Status, Error: wire.Code, Codes: wire.AADSTS}
	if reply.Status >= http.StatusBadRequest {
		a.Outcome.RetryAfter, a.capped, a.Outcome.HasRetryAfter =
			policy.RetryAfter(reply.Header.Get("Retry-After"), reply.Header.Get("Date"), a.At)
	}
	refusal.RetryAfter = a.Outcome.HasRetryAfter
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
	case !readable:
		failure.Message = unreadable(reply)
	}
	failure.Advice = adviceFor(failure.Class, failure.Code)
	if advice, known := policy.Advise(wire.AADSTS); known {
		failure.Advice = advice.Do
	}
	if failure.Class == policy.Credential && policy.Skewed(a.ahead) { // the key may be good
		failure.Advice = fmt.Sprintf("set the clock: this host's is %v the server's, which makes every assertion invalid; if that does not help, %s", apart(a.ahead), failure.Advice)
	}
	a.fail(failure, refusal.ClientWide())
}

func (a *Answer) fail(f *Failure, clientWide bool) {
	a.Failure = f
	a.Outcome.Class = f.Class
	a.Outcome.ClientWide = clientWide
}

// apart says where this host's clock is, from the server's.
func apart(ahead time.Duration) string {
	if ahead > 0 {
		return ahead.String() + " behind"
	}
	return ahead.Abs().String() + " ahead of"
}

// unreadable says what came instead of an OAuth error.
func unreadable(reply provider.Reply) string {
	switch {
	case reply.Status >= 300 && reply.Status < 400:
		return "the server answered with a redirect, which credagent does not follow: check the token endpoint's URL"
	case reply.Status == http.StatusNotFound:
		return "there is nothing at this URL: check the token endpoint"
	}
	return http.StatusText(reply.Status) + ", with no OAuth error in the answer"
}

// unanswered reads the error of an exchange that brought no answer.
func unanswered(err error, limit time.Duration, at time.Time) Answer {
	a := Answer{At: at}
	var failure *provider.Failure
	if !errors.As(err, &failure) {
		failure = &provider.Failure{Kind: provider.KindProvider, Message: err.Error()}
	}
	switch failure.Kind {
	case provider.KindConfig:
		a.fail(&Failure{Class: policy.Configuration, Message: failure.Message, Local: true,
			Advice: "mend the credential's config"}, true)
	case provider.KindCredential:
		a.fail(&Failure{Class: policy.Credential, Message: failure.Message, Local: true,
			Advice: "mend the credential's files; nothing was sent to the server"}, true)
	case provider.KindRefused:
		a.fail(&Failure{Class: policy.Credential, Message: failure.Message, RefusesClient: true,
			Advice: adviceFor(policy.Credential, "")}, true)
	case provider.KindTimeout:
		a.fail(&Failure{Class: policy.Transient, Message: failure.Message}, true)
		a.Outcome.TimedOut = limit
	default:
		a.fail(&Failure{Class: policy.Transient, Message: failure.Message}, true)
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
