package policy_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

// The outcomes that the tests are made of.
func succeeded() policy.Outcome { return policy.Outcome{Class: policy.Success} }

func throttled(wait time.Duration) policy.Outcome {
	return policy.Outcome{Class: policy.Throttled, ClientWide: true, HasRetryAfter: true, RetryAfter: wait}
}

func refusedFor(wait time.Duration) policy.Outcome {
	return policy.Outcome{Class: policy.Credential, ClientWide: true, HasRetryAfter: true, RetryAfter: wait}
}

func failed(class policy.Class) policy.Outcome {
	return policy.Outcome{Class: class, ClientWide: true}
}

func tokenOnly(class policy.Class) policy.Outcome { return policy.Outcome{Class: class} }

func timedOut(limit time.Duration) policy.Outcome {
	return policy.Outcome{Class: policy.Transient, ClientWide: true, TimedOut: limit}
}

func TestGateWaits(t *testing.T) {
	tests := []struct {
		name     string
		outcomes []policy.Outcome // one after another, each at the instant at which the gate opened
		r        float64
		want     time.Duration // from the last answer to the opening
		failures int
	}{
		{"nothing happened", nil, 0, 0, 0},
		{"success", []policy.Outcome{succeeded()}, 0, 0, 0},
		{"a failure of one token", []policy.Outcome{tokenOnly(policy.Configuration)}, 0, 0, 0},
		{"a first failure", []policy.Outcome{failed(policy.Transient)}, 0, 5 * time.Second, 1},
		{"a first timeout", []policy.Outcome{timedOut(10 * time.Second)}, 0, 10 * time.Second, 1},
		{"a short timeout", []policy.Outcome{timedOut(time.Second)}, 0, 5 * time.Second, 1},
		{"a second failure", []policy.Outcome{failed(policy.Transient), failed(policy.Transient)}, 0, 10 * time.Second, 2},
		{"throttled without Retry-After", []policy.Outcome{failed(policy.Throttled)}, 0, 5 * time.Second, 1},
		{"throttled and transient are one ladder", []policy.Outcome{failed(policy.Throttled), failed(policy.Transient)}, 0, 10 * time.Second, 2},
		{"a refused credential", []policy.Outcome{failed(policy.Credential)}, 0, time.Minute, 1},
		{"refusals are one ladder", []policy.Outcome{failed(policy.Credential), failed(policy.Configuration), failed(policy.Refused)}, 0, 4 * time.Minute, 3},
		{"a refusal after an outage starts afresh", []policy.Outcome{failed(policy.Transient), failed(policy.Transient), failed(policy.Credential)}, 0, time.Minute, 1},
		{"an outage after a refusal starts afresh", []policy.Outcome{failed(policy.Credential), failed(policy.Credential), failed(policy.Transient)}, 0, 5 * time.Second, 1},
		{"success ends the ladder", []policy.Outcome{failed(policy.Transient), succeeded(), failed(policy.Transient)}, 0, 5 * time.Second, 1},
		{"so does an answer about one token", []policy.Outcome{failed(policy.Transient), tokenOnly(policy.Refused), failed(policy.Transient)}, 0, 5 * time.Second, 1},
		{"Retry-After", []policy.Outcome{throttled(time.Minute)}, 0, time.Minute, 1},
		{"Retry-After with all the jitter", []policy.Outcome{throttled(time.Minute)}, 1, 66 * time.Second, 1},
		{"Retry-After of nothing", []policy.Outcome{throttled(0)}, 0, 5 * time.Second, 1},
		{"Retry-After of a second", []policy.Outcome{throttled(time.Second)}, 0, 5 * time.Second, 1},
		{"Retry-After of a day", []policy.Outcome{throttled(policy.MaxRetryAfter)}, 0, policy.MaxRetryAfter, 1},
		{"Retry-After of centuries", []policy.Outcome{throttled(math.MaxInt64)}, 0, policy.MaxRetryAfter, 1},
		{"a short Retry-After does not end the ladder", []policy.Outcome{failed(policy.Transient), failed(policy.Transient), failed(policy.Transient), throttled(6 * time.Second)}, 0, 40 * time.Second, 4},
		{"nor does one of nothing", []policy.Outcome{throttled(0), throttled(0), throttled(0), throttled(0)}, 0, 40 * time.Second, 4},
		{"a refusal with Retry-After is a refusal", []policy.Outcome{refusedFor(time.Second)}, 0, time.Minute, 1},
		{"which waits for longer if the server says so", []policy.Outcome{refusedFor(10 * time.Minute)}, 0, 10 * time.Minute, 1},
		{"and the ladder goes on behind it", []policy.Outcome{throttled(time.Minute), failed(policy.Transient)}, 0, 10 * time.Second, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var gate policy.Gate
			now := epoch()
			for _, outcome := range test.outcomes {
				if opens := gate.OpensAt(); opens.After(now) {
					now = opens
				}
				gate = gate.Sent(now).Answered(now, outcome, test.r)
			}
			checkOpening(t, gate, now, test.want)
			if gate.Failures != test.failures {
				t.Errorf("%d failures, want %d", gate.Failures, test.failures)
			}
		})
	}
}

// checkOpening holds the gate closed until wait after now, and open from then on.
func checkOpening(t *testing.T, gate policy.Gate, now time.Time, wait time.Duration) {
	t.Helper()
	opens := now.Add(wait)
	if wait > 0 && !gate.OpensAt().Equal(opens) {
		t.Errorf("it opens after %v, want %v", gate.OpensAt().Sub(now), wait)
	}
	if !gate.Open(opens) {
		t.Errorf("it is closed %v later", wait)
	}
	if wait > 0 && gate.Open(opens.Add(-1)) {
		t.Errorf("it is open just before %v later", wait)
	}
}

func TestGateProbesSlowly(t *testing.T) {
	for _, r := range []float64{0, 0.5, almostOne} {
		var gate policy.Gate
		now := epoch()
		for failure := range 30 {
			gate = gate.Sent(now).Answered(now, failed(policy.Credential), r)
			wait := gate.OpensAt().Sub(now)
			if wait < time.Minute || wait > 15*time.Minute {
				t.Errorf("r %v, failure %d: the next probe is %v away", r, failure+1, wait)
			}
			now = gate.OpensAt()
		}
	}
}

func TestGateRemembersSinceWhenItFails(t *testing.T) {
	first := epoch()
	gate := policy.Gate{}.Answered(first, failed(policy.Transient), 0)
	gate = gate.Answered(first.Add(time.Minute), throttled(time.Minute), 0)
	if !gate.FailingSince.Equal(first) {
		t.Errorf("failing since %v, want the first failure %v", gate.FailingSince, first)
	}
	lasting := first.Add(time.Hour)
	gate = gate.Answered(lasting, failed(policy.Credential), 0)
	if !gate.FailingSince.Equal(lasting) || !gate.Lasting {
		t.Errorf("failing since %v (lasting %v), want the first refusal %v", gate.FailingSince, gate.Lasting, lasting)
	}
	if gate = gate.Answered(lasting.Add(time.Minute), succeeded(), 0); !gate.FailingSince.IsZero() || gate.Lasting {
		t.Errorf("after a success it is failing since %v (lasting %v)", gate.FailingSince, gate.Lasting)
	}
}

func TestNothingShortensARetryAfter(t *testing.T) {
	now := epoch()
	until := now.Add(time.Hour)
	gate := policy.Gate{}.Answered(now, throttled(time.Hour), 0)
	later := now.Add(time.Minute)
	tests := []struct {
		name string
		next policy.Gate
	}{
		{"a changed credential or a reload", gate.WithoutBackoff()},
		{"a late success", gate.Answered(later, succeeded(), 0)},
		{"a late failure", gate.Answered(later, failed(policy.Transient), 0)},
		{"a late refusal", gate.Answered(later, failed(policy.Credential), 0)},
		{"a shorter Retry-After", gate.Answered(later, throttled(time.Second), 0)},
		{"a late failure of one token", gate.Answered(later, tokenOnly(policy.Configuration), 0)},
		{"a request", gate.Sent(later)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !test.next.BlockedUntil.Equal(until) {
				t.Errorf("blocked until %v, want %v", test.next.BlockedUntil, until)
			}
			checkOpening(t, test.next, now, time.Hour)
		})
	}
	if longer := gate.Answered(later, throttled(2*time.Hour), 0); !longer.BlockedUntil.Equal(later.Add(2 * time.Hour)) {
		t.Errorf("a longer Retry-After blocks until %v", longer.BlockedUntil)
	}
}

func TestForgivenGateWaitsForTheShortestRetryOnly(t *testing.T) {
	now := epoch()
	gate := policy.Gate{}.Answered(now, failed(policy.Credential), 0).WithoutBackoff()
	if gate.Failures != 0 || !gate.FailingSince.IsZero() || gate.Lasting {
		t.Errorf("it still counts failures: %+v", gate)
	}
	checkOpening(t, gate, now, policy.MinRetry)
	checkOpening(t, gate.WithoutBackoff(), now, policy.MinRetry) // two reloads in a row
	if again := gate.Answered(now, failed(policy.Credential), 0); again.Failures != 1 {
		t.Errorf("the next failure is number %d, want the first", again.Failures)
	}
	if open := gate.Answered(now, succeeded(), 0).WithoutBackoff(); !open.Open(now) {
		t.Error("it still waits after a success")
	}
	if never := (policy.Gate{}).WithoutBackoff(); !never.Open(now) {
		t.Error("it waits although nothing failed")
	}
}

func TestGateUnderASteppedClock(t *testing.T) {
	answered := time.Now()
	asked := policy.Gate{}.Answered(answered, throttled(time.Minute), 0)
	ours := policy.Gate{}.Answered(answered, failed(policy.Credential), 0)
	paced := policy.Gate{}
	for range policy.MaxInPace {
		paced = paced.Sent(answered)
	}
	restored := policy.Gate{BlockedUntil: asked.BlockedUntil.Round(0)}
	tests := []struct {
		name string
		gate policy.Gate
		now  time.Time
		want bool
	}{
		{"forward does not end a Retry-After", asked, stepped(t, answered, time.Hour), false},
		{"forward does not end it early", asked, stepped(t, answered.Add(time.Minute-1), time.Hour), false},
		{"forward lets it end in time", asked, stepped(t, answered.Add(time.Minute), time.Hour), true},
		{"back does not lengthen a Retry-After", asked, stepped(t, answered.Add(time.Minute), -time.Hour), true},
		{"forward ends our own wait", ours, stepped(t, answered, time.Hour), true},
		{"forward by too little does not", ours, stepped(t, answered, 59*time.Second), false},
		{"back does not lengthen our own wait", ours, stepped(t, answered.Add(time.Minute), -time.Hour), true},
		{"forward does not end the pace", paced, stepped(t, answered, time.Hour), false},
		{"a Retry-After from disk holds", restored, answered.Add(time.Minute - 1), false},
		{"and ends", restored, answered.Add(time.Minute), true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.gate.Open(test.now); got != test.want {
				t.Errorf("Open = %v, want %v", got, test.want)
			}
		})
	}
}

func TestGatePacesRequests(t *testing.T) {
	var gate policy.Gate
	now := epoch()
	for i := range policy.MaxInPace {
		if !gate.Open(now) {
			t.Fatalf("it is closed for request %d", i+1)
		}
		gate = gate.Sent(now)
		now = now.Add(time.Millisecond)
	}
	checkOpening(t, gate, epoch(), policy.PaceWindow)
	gate = gate.Sent(epoch().Add(policy.PaceWindow))
	if len(gate.Recent) != policy.MaxInPace {
		t.Errorf("it remembers %d requests, want %d", len(gate.Recent), policy.MaxInPace)
	}
	checkOpening(t, gate, epoch(), policy.PaceWindow+time.Millisecond)
}

func TestARestoredListMayBeLonger(t *testing.T) {
	var instants []time.Time
	for i := range 20 {
		instants = append(instants, epoch().Add(time.Duration(i)*100*time.Millisecond))
	}
	last := func(n int) time.Time { return instants[len(instants)-n] }
	gate := policy.Gate{Recent: instants}
	if want := last(policy.MaxInPace).Add(policy.PaceWindow); !gate.OpensAt().Equal(want) {
		t.Errorf("the gate opens at %v, want %v", gate.OpensAt(), want)
	}
	if sent := gate.Sent(epoch()); len(sent.Recent) != policy.MaxInPace {
		t.Errorf("the gate remembers %d requests, want %d", len(sent.Recent), policy.MaxInPace)
	}
	attempts := policy.Attempts{Recent: instants}
	if want := last(policy.MaxInWindow).Add(policy.Window); !attempts.ReadyAt().Equal(want) {
		t.Errorf("the token is ready at %v, want %v", attempts.ReadyAt(), want)
	}
}

func TestGatesAreValues(t *testing.T) {
	now := epoch()
	old := policy.Gate{}.Sent(now).Sent(now)
	recent := slices.Clone(old.Recent)
	one, other := old.Sent(now.Add(1)), old.Sent(now.Add(2))
	if !slices.Equal(old.Recent, recent) {
		t.Errorf("Sent changed the old gate to %v", old.Recent)
	}
	if got := one.Recent[len(one.Recent)-1]; !got.Equal(now.Add(1)) {
		t.Errorf("a second Sent changed the first one's gate: %v", got)
	}
	full := other.Sent(now).Sent(now)
	recent = slices.Clone(full.Recent)
	_ = full.Sent(now.Add(9))
	if !slices.Equal(full.Recent, recent) {
		t.Errorf("Sent changed the old full gate to %v", full.Recent)
	}
}

func ExampleGate() {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	var gate policy.Gate
	gate = gate.Sent(now)
	gate = gate.Answered(now, policy.Outcome{Class: policy.Throttled, HasRetryAfter: true, RetryAfter: time.Minute}, 0)
	gate = gate.WithoutBackoff() // the credential was rotated: no reason to undercut the server
	fmt.Println(gate.Open(now.Add(59*time.Second)), gate.OpensAt().Format(time.TimeOnly))
	// Output: false 12:01:00
}

// A server that is down is asked no more often because it says when to come back.
func TestARetryAfterEndsNoLadder(t *testing.T) {
	const day = 24 * time.Hour
	for _, class := range []policy.Class{policy.Throttled, policy.Transient, policy.Credential, policy.Configuration, policy.Refused} {
		for _, r := range []float64{0, 0.5, almostOne} {
			without := requestsIn(day, failed(class), r)
			for _, wait := range []time.Duration{0, time.Second, 5 * time.Second} { // a date that is past is 0
				with := failed(class)
				with.HasRetryAfter, with.RetryAfter = true, wait
				if got := requestsIn(day, with, r); got > without {
					t.Errorf("%v, r %v: %d requests a day with a Retry-After of %v, %d without", class, r, got, wait, without)
				}
			}
		}
	}
}

// requestsIn plays an outage in which every request ends alike.
func requestsIn(span time.Duration, o policy.Outcome, r float64) int {
	var gate policy.Gate
	var token policy.Attempts
	requests := 0
	for now := epoch(); now.Before(epoch().Add(span)); requests++ {
		gate, token = gate.Sent(now).Answered(now, o, r), token.Sent(now).Answered(now, o, r)
		now = gate.OpensAt()
		if ready := token.ReadyAt(); ready.After(now) {
			now = ready
		}
	}
	return requests
}

func TestOneRequestFindsOutWhetherTheServerAnswers(t *testing.T) {
	now := epoch()
	once := policy.Gate{}.Answered(now, succeeded(), 0)
	answering := once
	for range 20 {
		answering = answering.Answered(now, succeeded(), 0)
	}
	for _, test := range []struct {
		name string
		gate policy.Gate
		want int
	}{
		{"nothing is known", policy.Gate{}, 1},
		{"it answered once", once, 1},
		{"it refused one token only", policy.Gate{}.Answered(now, tokenOnly(policy.Configuration), 0), 1},
		{"it answered twice", once.Answered(now, succeeded(), 0), 2},
		{"it answered often", answering, policy.MaxUnderWay},
		{"it failed", answering.Answered(now, failed(policy.Transient), 0), 1},
		{"it asked for a wait", answering.Answered(now, throttled(time.Minute), 0), 1},
		{"it refused the client", answering.Answered(now, failed(policy.Credential), 0), 1},
		{"the credential was replaced", answering.WithoutBackoff(), 1},
		{"the process was restarted", answering.Restored(now, now), 1},
	} {
		if got := test.gate.MaxUnderWay(); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

func TestFailuresOfRequestsUnderWayTogetherAreOne(t *testing.T) {
	sent := epoch()
	gate := policy.Gate{}.Answered(sent, succeeded(), 0)
	var last time.Time
	for i := range policy.MaxUnderWay {
		o := failed(policy.Transient)
		o.Sent, last = sent, sent.Add(time.Duration(i+1)*time.Second)
		gate = gate.Answered(last, o, 0)
	}
	if gate.Failures != 1 {
		t.Errorf("they count as %d failures", gate.Failures)
	}
	if early := last.Add(policy.MinRetry - 1); gate.Open(early) {
		t.Error("the next request may be sent sooner than the shortest retry after the last failure")
	}
	next := failed(policy.Transient)
	next.Sent = gate.OpensAt()
	if gate = gate.Answered(next.Sent.Add(time.Second), next, 0); gate.Failures != 2 {
		t.Errorf("with the request sent after them, %d failures", gate.Failures)
	}
}

func TestSuccessOfAnEarlierRequestEndsNothing(t *testing.T) {
	sent := epoch()
	refused := failed(policy.Transient)
	refused.Sent = sent.Add(time.Second)
	gate := policy.Gate{}.Answered(sent, succeeded(), 0).Answered(sent.Add(2*time.Second), refused, 0)
	late := succeeded()
	late.Sent = sent
	if after := gate.Answered(sent.Add(3*time.Second), late, 0); !after.OpensAt().Equal(gate.OpensAt()) || after.MaxUnderWay() != 1 {
		t.Errorf("a request sent before the failure opens the gate at %v, it was %v", after.OpensAt(), gate.OpensAt())
	}
}

func TestSuspendCountsAsWaiting(t *testing.T) {
	now := time.Now()
	gate := policy.Gate{}.Answered(now, throttled(time.Hour), 0).Suspended(50 * time.Minute)
	if gate.Open(now.Add(9*time.Minute + 59*time.Second)) {
		t.Error("the wait was undercut")
	}
	if !gate.Open(now.Add(10 * time.Minute)) {
		t.Error("the wait is not over after an hour by the clock since boot")
	}
	if (policy.Gate{}).Suspended(time.Hour).BlockedUntil != (time.Time{}) {
		t.Error("a gate without a wait got one")
	}
}
