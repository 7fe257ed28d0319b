package agent

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
)

// TestRestartKeepsTheHistory: a token that had been there is told of as such, and what failed, how often
// and why is the same before and after, however often the agent is started while the server refuses.
func TestRestartKeepsTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, _ arrival) (provider.Reply, error) {
			if n == 1 {
				return granted("token-1", time.Hour), nil
			}
			return refusal(http.StatusUnauthorized, "invalid_client", ""), nil
		}}
		f, _ := remembered(s, "a")
		stop := f.run(t.Context())
		pass(3 * time.Hour)
		stop()
		before := f.agent.Status().Tokens[0]
		if before.Phase() != status.PhaseExpired || before.LastError == "" || before.ConsecutiveFailures == 0 || before.Requests != len(s.requests()) {
			t.Fatalf("before the restart it is %+v after %d requests", before, len(s.requests()))
		}
		for range 3 {
			f = f.successor(s, same)
			checkHistory(t, before, f.agent.Status().Tokens[0])
			stop = f.run(t.Context())
			pass(time.Second)
			stop()
			before = f.agent.Status().Tokens[0]
			if before.Requests != len(s.requests()) {
				t.Errorf("it tells of %d requests, the server of %d", before.Requests, len(s.requests()))
			}
			if sink := f.agent.Status().Sinks[0]; sink.State() != status.SinkExpired || !sink.ExpiredAt.Equal(*before.Expiry) {
				t.Errorf("the sink is %+v", sink)
			}
		}
	})
}

func checkHistory(t *testing.T, before, after status.Token) {
	t.Helper()
	if after.Phase() != status.PhaseExpired || !after.Expiry.Equal(*before.Expiry) || !after.AcquiredAt.Equal(*before.AcquiredAt) {
		t.Errorf("after the restart it is %s, from %v to %v", after.Phase(), after.AcquiredAt, after.Expiry)
	}
	if after.Requests != before.Requests || after.ConsecutiveFailures != before.ConsecutiveFailures {
		t.Errorf("%d requests and %d failures were %d and %d", after.Requests, after.ConsecutiveFailures, before.Requests, before.ConsecutiveFailures)
	}
	if after.LastError != before.LastError || after.Advice != before.Advice || after.LastOutcome != before.LastOutcome || !after.LastErrorAt.Equal(*before.LastErrorAt) {
		t.Errorf("it failed with %q (%s), before with %q (%s)", after.LastError, after.LastOutcome, before.LastError, before.LastOutcome)
	}
}

// TestHistoryEndsWithASuccess: what failed before is no news once a request succeeded.
func TestHistoryEndsWithASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, _ arrival) (provider.Reply, error) {
			if n < 3 {
				return refusal(http.StatusUnauthorized, "invalid_client", ""), nil
			}
			return granted("token", time.Hour), nil
		}}
		f, _ := remembered(s, "a")
		stop := f.run(t.Context())
		pass(time.Second)
		stop()
		f = f.successor(s, same)
		if got := f.agent.Status().Tokens[0]; got.Phase() != status.PhaseNone || got.LastError == "" {
			t.Fatalf("after the restart it is %+v", got)
		}
		stop = f.run(t.Context())
		pass(2 * time.Hour)
		stop()
		f = f.successor(s, same)
		got := f.agent.Status().Tokens[0]
		if got.LastError != "" || got.ConsecutiveFailures != 0 || got.LastOutcome == "credential" || got.Requests != len(s.requests()) {
			t.Errorf("it is %+v after %d requests", got, len(s.requests()))
		}
	})
}
