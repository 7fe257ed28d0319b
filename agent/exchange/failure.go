package exchange

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/logkey"
)

// Failure is a failed token request. It contains nothing secret.
type Failure struct {
	Class         policy.Class
	Status        int    // HTTP status; 0 without an answer
	Code          string // error of RFC 6749, 5.2
	Message       string // what happened
	Advice        string // what to do; "" if only waiting helps
	AADSTS        []int
	CorrelationID string
	TraceID       string

	Local         bool // nothing was sent: the credential or the configuration is not usable here
	RefusesClient bool // the server does not accept the credential or the client
}

// Error implements error: `invalid_client (401), AADSTS7000222: …`, or `HTTP 503, …` if the answer has no OAuth
// error.
func (f *Failure) Error() string {
	head := ""
	switch {
	case f.Code != "":
		head = fmt.Sprintf("%s (%d)", f.Code, f.Status)
	case f.Status != 0:
		head = fmt.Sprintf("HTTP %d", f.Status)
	}
	if head == "" || f.Message == "" {
		return head + f.Message
	}
	return head + ", " + f.Message
}

// Like reports whether two failures are equal, except for the ids of their requests.
func (f *Failure) Like(other *Failure) bool {
	return f != nil && other != nil && f.Class == other.Class && f.Status == other.Status &&
		f.Code == other.Code && slices.Equal(f.AADSTS, other.AADSTS)
}

// Attributes returns the log attributes of the failure.
func (f *Failure) Attributes() []slog.Attr {
	attrs := []slog.Attr{slog.String(logkey.Class, f.Class.String()), slog.String(logkey.Error, f.Error())}
	if f.Status != 0 {
		attrs = append(attrs, slog.Int(logkey.Status, f.Status))
	}
	for _, text := range []struct{ key, value string }{
		{logkey.ErrorCode, f.Code}, {logkey.CorrelationID, f.CorrelationID}, {logkey.TraceID, f.TraceID}, {logkey.Advice, f.Advice},
	} {
		if text.value != "" {
			attrs = append(attrs, slog.String(text.key, text.value))
		}
	}
	if len(f.AADSTS) > 0 {
		attrs = append(attrs, slog.Any(logkey.AADSTS, f.AADSTS))
	}
	return attrs
}

// adviceFor returns the advice for a class of failure if nothing more precise is known.
func adviceFor(class policy.Class, code string) string {
	switch {
	case code == "invalid_scope":
		return "check the token's scopes against what the server lets this client ask for"
	case code == "unauthorized_client" && class != policy.Credential:
		return "allow this client the client-credentials grant at the server"
	case code == "invalid_target":
		return "check the token's resources and audience"
	case code == "unsupported_grant_type":
		return "the server does not offer the client-credentials grant: check the token endpoint"
	case class == policy.Credential:
		return "check the client's credential against what is registered at the server for this client_id, and auth_method against what the server accepts"
	case class == policy.Configuration:
		return "check the token's and the client's configuration"
	case class == policy.Refused:
		return "ask the administrator of the authorization server which rule refuses this client"
	}
	return ""
}

// grantAdvice returns what to do about the refusal of a request with this grant type; "" if it is the same for every
// grant.
func grantAdvice(grantType string, f *Failure) string {
	if grantType == oauth.TokenExchange {
		return exchangeAdvice(f)
	}
	if grantType != oauth.JWTBearer {
		return ""
	}
	switch {
	case f.Code == "invalid_grant":
		return "compare the assertion with what is registered at the server: subject, assertion_audience, the key and its key_id, and the user's or administrator's consent; and this host's clock"
	case f.Code == "consent_required":
		return "have the subject, or an administrator, consent to this client at the server once"
	case f.Code == "unsupported_grant_type":
		return "the server does not offer grant jwt_bearer (RFC 7523): check the token endpoint"
	case f.Code == "unauthorized_client" && f.Class != policy.Credential:
		return "allow this client grant jwt_bearer (RFC 7523) at the server, for this subject and these scopes"
	}
	return ""
}

// exchangeAdvice is grantAdvice for token exchanges.
func exchangeAdvice(f *Failure) string {
	switch {
	case f.Code == "invalid_grant" || f.Code == "invalid_request":
		return "check subject_token in the credential's config against the server: whom it trusts to issue it, its audience, its expiry and subject_token_type"
	case f.Code == "unsupported_grant_type":
		return "the server does not offer grant token_exchange (RFC 8693): check the token endpoint"
	case f.Code == "unauthorized_client" && f.Class != policy.Credential:
		return "allow this client grant token_exchange (RFC 8693) at the server"
	}
	return ""
}

// wantsOtherMethod reports whether a server's text refuses not the secret, but how it was sent: in a header instead
// of the body, or vice versa.
func wantsOtherMethod(words string) bool {
	words = strings.ToLower(words)
	for _, sign := range []string{
		"auth_method", "authentication method", "auth method", "authentication scheme",
		"secret not provided", "secret is missing", "missing client_secret", "missing client secret", "client_secret is required",
		"missing client credentials", "no client credentials", "no client authentication", "multiple client credentials",
	} {
		if strings.Contains(words, sign) {
			return true
		}
	}
	return false
}
