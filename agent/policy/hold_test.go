package policy_test

import (
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

func TestHolding(t *testing.T) {
	gateAfter := func(o ...policy.Outcome) policy.Gate {
		var g policy.Gate
		for _, outcome := range o {
			g = g.Sent(epoch()).Answered(epoch(), outcome, 0)
		}
		return g
	}
	tokenAfter := func(o ...policy.Outcome) policy.Attempts {
		var a policy.Attempts
		for _, outcome := range o {
			a = a.Sent(epoch()).Answered(epoch(), outcome, 0)
		}
		return a
	}
	var often policy.Attempts
	for i := range policy.MaxInWindow {
		often = often.Sent(epoch().Add(time.Duration(i) * time.Second))
	}
	refused := failed(policy.Credential)
	tests := []struct {
		name   string
		gate   policy.Gate
		token  policy.Attempts
		after  time.Duration // since the last answer
		reason policy.Reason
		left   time.Duration
	}{
		{"nothing happened", policy.Gate{}, policy.Attempts{}, 0, policy.NotHeld, 0},
		{"just refreshed", gateAfter(succeeded()), tokenAfter(succeeded()), 0, policy.NotHeld, 0},
		{"the server asked for time", gateAfter(throttled(time.Hour)), tokenAfter(throttled(time.Hour)), time.Minute, policy.ServerAsked, 59 * time.Minute},
		{"of another token of the client", gateAfter(throttled(time.Hour)), tokenAfter(succeeded()), time.Minute, policy.ServerAsked, 59 * time.Minute},
		{"and got it", gateAfter(throttled(time.Hour)), tokenAfter(throttled(time.Hour)), time.Hour, policy.NotHeld, 0},
		{"the client just failed", gateAfter(refused), tokenAfter(), 2 * time.Second, policy.JustFailed, 3 * time.Second},
		{"the token just failed", gateAfter(), tokenAfter(tokenOnly(policy.Refused)), 2 * time.Second, policy.JustFailed, 3 * time.Second},
		{"our own backoff alone", gateAfter(refused, refused, refused), tokenAfter(refused, refused, refused), 5 * time.Second, policy.NotHeld, 0},
		{"a timeout's backoff", gateAfter(timedOut(time.Minute)), tokenAfter(timedOut(time.Minute)), 5 * time.Second, policy.NotHeld, 0},
		{"twelve within a minute", gateAfter(), often, 20 * time.Second, policy.TooMany, 40 * time.Second},
		{"twelve, the first of them a minute ago", gateAfter(), often, time.Minute, policy.NotHeld, 0},
		{"the longest reason counts", gateAfter(throttled(30 * time.Second)), often, 20 * time.Second, policy.TooMany, 40 * time.Second},
		{"whichever it is", gateAfter(throttled(time.Hour)), often, 20 * time.Second, policy.ServerAsked, time.Hour - 20*time.Second},
		{"four within a second are no reason", gateAfter(succeeded(), succeeded(), succeeded(), succeeded()), tokenAfter(), 0, policy.NotHeld, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := policy.Holding(epoch().Add(test.after), test.gate, test.token)
			if want := (policy.Hold{Reason: test.reason, For: test.left}); got != want {
				t.Errorf("Holding = %v, want %v", got, want)
			}
		})
	}
}

func TestHoldingUnderASteppedClock(t *testing.T) {
	answered := time.Now()
	asked := policy.Gate{}.Answered(answered, throttled(time.Minute), 0)
	failing := policy.Gate{}.Answered(answered, failed(policy.Transient), 0)
	if got := policy.Holding(stepped(t, answered, time.Hour), asked, policy.Attempts{}); got.Reason != policy.ServerAsked {
		t.Errorf("a clock set forward ended what the server asked for: %v", got)
	}
	if got := policy.Holding(stepped(t, answered, time.Hour), failing, policy.Attempts{}); got.Reason != policy.NotHeld {
		t.Errorf("a clock set forward does not end a wait of our own: %v", got)
	}
}

// TestPressedKeepsTheLadder: a refresh that is asked for in an outage is one more attempt, not the
// first of a new series.
func TestPressedKeepsTheLadder(t *testing.T) {
	var gate policy.Gate
	var token policy.Attempts
	for range 4 {
		gate = gate.Answered(epoch(), failed(policy.Transient), 0)
		token = token.Answered(epoch(), failed(policy.Transient), 0)
	}
	pressedGate, pressedToken := gate.Expedited(), token.Expedited()
	checkOpening(t, pressedGate, epoch(), policy.MinRetry)
	checkReady(t, pressedToken, epoch(), policy.MinRetry)
	if pressedGate.FailingSince != gate.FailingSince || pressedToken.FailingSince != token.FailingSince {
		t.Error("it forgot since when requests fail")
	}
	now := epoch().Add(policy.MinRetry)
	checkOpening(t, pressedGate.Answered(now, failed(policy.Transient), 0), now, 80*time.Second)
	checkReady(t, pressedToken.Answered(now, failed(policy.Transient), 0), now, 80*time.Second)
}
