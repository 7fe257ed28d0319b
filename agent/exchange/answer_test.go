package exchange

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
)

// An exchange without an answer says all the same whose failure it is.
func TestUnansweredExchangesHaveTheirClasses(t *testing.T) {
	tests := map[string]struct {
		kind           provider.Kind
		class          policy.Class
		local, refuses bool
	}{
		"no process":           {provider.KindProvider, policy.Transient, false, false},
		"no connection":        {provider.KindNetwork, policy.Transient, false, false},
		"no answer in time":    {provider.KindTimeout, policy.Transient, false, false},
		"unsound config":       {provider.KindConfig, policy.Configuration, true, false},
		"unusable credential":  {provider.KindCredential, policy.Credential, true, false},
		"nobody hands it out":  {provider.KindUnavailable, policy.Transient, true, false},
		"refused in handshake": {provider.KindRefused, policy.Credential, false, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := unanswered(&provider.Failure{Kind: tc.kind, Message: "it"}, time.Second, time.Now())
			f := got.Failure
			if f.Class != tc.class || f.Local != tc.local || f.RefusesClient != tc.refuses || got.Outcome.Class != tc.class || !got.Outcome.ClientWide {
				t.Errorf("failure %+v, outcome %+v", f, got.Outcome)
			}
		})
	}
}

// What hands a credential out is left alone for as long as it asks.
func TestWaitsOfSources(t *testing.T) {
	got := unanswered(&provider.Failure{Kind: provider.KindUnavailable, Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"40"}}}, time.Second, time.Now())
	if !got.Outcome.HasRetryAfter || got.Outcome.RetryAfter != 40*time.Second || got.Failure.Status != 0 {
		t.Errorf("outcome %+v, failure %+v", got.Outcome, got.Failure)
	}
}

// The token that is held is not shown, however a server repeats it, and a grant stays as it is.
func TestRefusalsDoNotShowTheToken(t *testing.T) {
	token := "eyJ0eXAi.canary/+=" + strings.Repeat("y", 900)
	for name, said := range map[string]string{
		"as it is":   token,
		"in a URL":   url.QueryEscape(token),
		"in base64":  base64.StdEncoding.EncodeToString([]byte("token=" + token)),
		"in a hurry": token + token,
	} {
		t.Run(name, func(t *testing.T) {
			header := http.Header{"X-Request-Id": {said}}
			got := readReply(Hide(provider.Reply{Status: 400, Header: header, Body: []byte(`{"error":"invalid_request","error_description":"still good: ` + said + `"}`)}, token), time.Minute, time.Now())
			text := got.Failure.Error() + got.Failure.CorrelationID
			if strings.Contains(text, "yyyy") || strings.Contains(text, "eXl5") || !strings.Contains(text, "[redacted]") {
				t.Errorf("failure %q", text)
			}
			if header.Get("X-Request-Id") != said {
				t.Error("the reply itself was changed")
			}
		})
	}
	again := provider.Reply{Status: 200, Body: []byte(`{"access_token":"` + token + `","token_type":"Bearer","expires_in":60}`)}
	if got := readReply(Hide(again, token), time.Minute, time.Now()); got.Failure != nil || got.Grant.AccessToken.Reveal() != token {
		t.Errorf("a grant became %+v", got.Failure)
	}
}
