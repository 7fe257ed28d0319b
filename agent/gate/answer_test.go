package gate

import (
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
