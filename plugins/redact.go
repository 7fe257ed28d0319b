package plugins

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/credagent/credagent/internal/redact"
	"github.com/credagent/credagent/internal/transport"
	"github.com/credagent/credagent/plugins/providerpb"
)

// newRedactor hides what the provider added to a request: before is the original request, after the one that was
// sent.
func newRedactor(before, after *Request) redact.Redactor {
	var r redact.Redactor
	for name, values := range after.Form {
		if name == "client_assertion_type" {
			continue // a registered, public name (RFC 7521, 4.2)
		}
		r.Hide(added(before.Form[name], values)...)
	}
	for name, values := range after.Header {
		for _, value := range added(before.Header[name], values) {
			r.Hide(value)
			if name == "Authorization" {
				r.Hide(credentials(value)...)
			}
		}
	}
	return r
}

// hideProxy hides the password of the proxy that a request goes through, which the proxy may repeat.
func hideProxy(r *redact.Redactor, endpoint, proxy string) {
	choose, err := transport.New(nil, proxy)
	if err != nil {
		return
	}
	request, err := http.NewRequest(http.MethodPost, endpoint, nil)
	if err != nil {
		return
	}
	via, err := choose.Proxy(request)
	if err != nil || via == nil {
		return
	}
	if password, has := via.User.Password(); has {
		r.Hide(password, via.User.Username()+":"+password)
	}
}

// added returns the values that are new in after.
func added(before, after []string) []string {
	return slices.DeleteFunc(slices.Clone(after), func(value string) bool { return slices.Contains(before, value) })
}

// credentials returns the secret parts of an Authorization header (RFC 7617, 2; RFC 6749, 2.3.1).
func credentials(header string) []string {
	scheme, rest, _ := strings.Cut(header, " ")
	parts := []string{rest}
	if !strings.EqualFold(scheme, "Basic") {
		return parts
	}
	pair, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		return parts
	}
	_, password, _ := strings.Cut(string(pair), ":")
	parts = append(parts, password)
	if plain, err := url.QueryUnescape(password); err == nil {
		parts = append(parts, plain)
	}
	return parts
}

// redactReply redacts a reply in place. The body of a success contains the token and is not changed.
func redactReply(r redact.Redactor, reply *providerpb.ExchangeReply) {
	if failure := reply.GetFailure(); failure != nil {
		failure.Message = r.Text(failure.GetMessage())
		redactHeaders(r, failure.GetHeaders())
	}
	answer := reply.GetAnswer()
	if answer == nil {
		return
	}
	redactHeaders(r, answer.GetHeaders())
	answer.BodyError = r.Text(answer.GetBodyError())
	if answer.GetStatus()/100 != 2 || !holdsToken(answer.GetBody()) {
		body := r.Bytes(answer.GetBody())
		answer.Body = body[:min(len(body), maxBody)]
	}
}

func redactHeaders(r redact.Redactor, headers []*providerpb.Parameter) {
	for _, header := range headers {
		header.Value = r.Text(header.GetValue())
	}
}

// holdsToken reports whether a body is a token answer (RFC 6749, 5.1). Some servers send errors
// with a status of success.
func holdsToken(body []byte) bool {
	var answer struct {
		AccessToken string          `json:"access_token"`
		Error       json.RawMessage `json:"error"`
	}
	return json.Unmarshal(body, &answer) == nil && answer.AccessToken != "" && answer.Error == nil
}
