package policy_test

import (
	"slices"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

func TestAttemptsWait(t *testing.T) {
	tests := []struct {
		name     string
		outcomes []policy.Outcome // one after another, each at the instant at which the token was ready
		want     time.Duration    // from the last answer until it is ready again
		failures int
	}{
		{"nothing happened", nil, 0, 0},
		{"success", []policy.Outcome{succeeded()}, 0, 0},
		{"a first failure", []policy.Outcome{failed(policy.Transient)}, 5 * time.Second, 1},
		{"a first timeout", []policy.Outcome{timedOut(30 * time.Second)}, 30 * time.Second, 1},
		{"a second timeout", []policy.Outcome{timedOut(30 * time.Second), timedOut(30 * time.Second)}, time.Minute, 2},
		{"a failure of this token alone", []policy.Outcome{tokenOnly(policy.Configuration)}, time.Minute, 1},
		{"refusals of any kind are one ladder", []policy.Outcome{tokenOnly(policy.Configuration), failed(policy.Credential), tokenOnly(policy.Refused)}, 4 * time.Minute, 3},
		{"a refusal after an outage starts afresh", []policy.Outcome{failed(policy.Transient), failed(policy.Transient), tokenOnly(policy.Refused)}, time.Minute, 1},
		{"an outage after a refusal starts afresh", []policy.Outcome{tokenOnly(policy.Refused), tokenOnly(policy.Refused), failed(policy.Transient)}, 5 * time.Second, 1},
		{"success ends the ladder", []policy.Outcome{failed(policy.Transient), failed(policy.Transient), succeeded()}, 0, 0},
		{"a Retry-After is the gate's to wait for", []policy.Outcome{throttled(time.Hour)}, 5 * time.Second, 1},
		{"and does not end the token's own wait", []policy.Outcome{failed(policy.Transient), throttled(0)}, 10 * time.Second, 2},
		{"and the ladder goes on behind it", []policy.Outcome{throttled(time.Hour), failed(policy.Transient)}, 10 * time.Second, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var attempts policy.Attempts
			now := epoch()
			for _, outcome := range test.outcomes {
				if ready := attempts.ReadyAt(); ready.After(now) {
					now = ready
				}
				attempts = attempts.Sent(now).Answered(now, outcome, 0)
			}
			checkReady(t, attempts, now, test.want)
			if attempts.Failures != test.failures {
				t.Errorf("%d failures, want %d", attempts.Failures, test.failures)
			}
			if n := len(test.outcomes); n > 0 && attempts.Class != test.outcomes[n-1].Class {
				t.Errorf("the class is %v, want the last outcome's", attempts.Class)
			}
		})
	}
}

// checkReady holds the token back until wait after now, and lets it go from then on.
func checkReady(t *testing.T, attempts policy.Attempts, now time.Time, wait time.Duration) {
	t.Helper()
	ready := now.Add(wait)
	if wait > 0 && !attempts.ReadyAt().Equal(ready) {
		t.Errorf("it is ready after %v, want %v", attempts.ReadyAt().Sub(now), wait)
	}
	if !attempts.Ready(ready) {
		t.Errorf("it is not ready %v later", wait)
	}
	if wait > 0 && attempts.Ready(ready.Add(-1)) {
		t.Errorf("it is ready just before %v later", wait)
	}
}

func TestAttemptsInAWindow(t *testing.T) {
	var attempts policy.Attempts
	now := epoch()
	for i := range policy.MaxInWindow {
		if !attempts.Ready(now) {
			t.Fatalf("it is not ready for request %d", i+1)
		}
		attempts = attempts.Sent(now).Answered(now, succeeded(), 0)
		now = now.Add(time.Second)
	}
	checkReady(t, attempts, epoch(), policy.Window)
	checkReady(t, attempts.WithoutBackoff(), epoch(), policy.Window)
	attempts = attempts.Sent(epoch().Add(policy.Window))
	checkReady(t, attempts, epoch(), policy.Window+time.Second)
	if len(attempts.Recent) != policy.MaxInWindow {
		t.Errorf("it remembers %d requests, want %d", len(attempts.Recent), policy.MaxInWindow)
	}
}

func TestAttemptsUnderASteppedClock(t *testing.T) {
	answered := time.Now()
	waiting := policy.Attempts{}.Answered(answered, failed(policy.Credential), 0)
	full := policy.Attempts{}
	for range policy.MaxInWindow {
		full = full.Sent(answered)
	}
	tests := []struct {
		name     string
		attempts policy.Attempts
		now      time.Time
		want     bool
	}{
		{"forward ends the token's own wait", waiting, stepped(t, answered, time.Hour), true},
		{"back does not lengthen it", waiting, stepped(t, answered.Add(time.Minute), -time.Hour), true},
		{"back does not end it", waiting, stepped(t, answered.Add(time.Second), -time.Hour), false},
		{"forward does not make room in the window", full, stepped(t, answered, time.Hour), false},
		{"back does not keep the window full", full, stepped(t, answered.Add(time.Minute), -time.Hour), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.attempts.Ready(test.now); got != test.want {
				t.Errorf("Ready = %v, want %v", got, test.want)
			}
		})
	}
}

func TestForgivenAttemptsWaitForTheShortestRetryOnly(t *testing.T) {
	now := epoch()
	attempts := policy.Attempts{}.Answered(now, failed(policy.Credential), 0).WithoutBackoff()
	if attempts.Failures != 0 || !attempts.FailingSince.IsZero() {
		t.Errorf("it still counts failures: %+v", attempts)
	}
	checkReady(t, attempts, now, policy.MinRetry)
	checkReady(t, attempts.WithoutBackoff(), now, policy.MinRetry) // two reloads in a row
	if ready := attempts.Answered(now, succeeded(), 0).WithoutBackoff(); !ready.Ready(now) {
		t.Error("it still waits after a success")
	}
	if never := (policy.Attempts{}).WithoutBackoff(); !never.Ready(now) {
		t.Error("it waits although nothing failed")
	}
	attempts = attempts.Answered(now, failed(policy.Credential), 0)
	checkReady(t, attempts, now, time.Minute)
}

func TestRecovered(t *testing.T) {
	outage := epoch()
	now := outage.Add(time.Hour)
	later := outage.Add(time.Second)
	fail := func(at time.Time, class policy.Class, times int) policy.Attempts {
		var attempts policy.Attempts
		for range times {
			attempts = attempts.Answered(at, failed(class), 0)
		}
		attempts.RetryAt = now.Add(4 * time.Minute)
		return attempts
	}
	soon := fail(outage, policy.Transient, 1)
	soon.RetryAt = now.Add(time.Second)
	tests := []struct {
		name     string
		attempts policy.Attempts
		want     time.Duration
	}{
		{"it failed with the outage", fail(outage, policy.Transient, 7), 5 * time.Second},
		{"it failed during the outage", fail(later, policy.Transient, 1), 5 * time.Second},
		{"it failed before the outage", fail(outage.Add(-1), policy.Transient, 7), 4 * time.Minute},
		{"it was refused", fail(later, policy.Credential, 1), 4 * time.Minute},
		{"it was throttled", fail(later, policy.Throttled, 1), 5 * time.Second},
		{"it is ready sooner anyway", soon, time.Second},
		{"it never failed", policy.Attempts{}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := test.attempts.Recovered(now, outage)
			checkReady(t, got, now, test.want)
			if got.Failures != test.attempts.Failures {
				t.Errorf("%d failures became %d", test.attempts.Failures, got.Failures)
			}
		})
	}
}

func TestAttemptsAreValues(t *testing.T) {
	now := epoch()
	var old policy.Attempts
	for range policy.MaxInWindow {
		old = old.Sent(now)
		recent := slices.Clone(old.Recent)
		one, other := old.Sent(now.Add(1)), old.Sent(now.Add(2))
		if !slices.Equal(old.Recent, recent) {
			t.Fatalf("Sent changed the old value to %v", old.Recent)
		}
		if one.Recent[len(one.Recent)-1].Equal(other.Recent[len(other.Recent)-1]) {
			t.Fatal("a second Sent changed the first one's value")
		}
	}
}
