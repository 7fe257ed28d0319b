package status

import (
	"testing"
	"time"
)

var now = time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)

func at(d time.Duration) *time.Time { return Instant(now.Add(d)) }

func TestPhase(t *testing.T) {
	for want, token := range map[Phase]Token{
		PhaseNone:    {ConsecutiveFailures: 3},
		PhaseGood:    {AcquiredAt: at(-1), Expiry: at(1), Valid: true},
		PhaseFailing: {AcquiredAt: at(-1), Expiry: at(1), Valid: true, ConsecutiveFailures: 1},
		PhaseExpired: {AcquiredAt: at(-2), Expiry: at(-1), ConsecutiveFailures: 1},
	} {
		if got := token.Phase(); got != want {
			t.Errorf("phase %s, want %s", got, want)
		}
	}
}

func TestShare(t *testing.T) {
	token := Token{AcquiredAt: at(-time.Hour), Expiry: at(time.Hour)}
	for name, tc := range map[string]struct {
		token Token
		at    time.Time
		want  float64
	}{
		"half":           {token, now, 0.5},
		"at its start":   {token, now.Add(-time.Hour), 0},
		"before it":      {token, now.Add(-2 * time.Hour), 0},
		"at its end":     {token, now.Add(time.Hour), 1},
		"after it":       {token, now.Add(3 * time.Hour), 1},
		"no token":       {Token{}, now, 0},
		"no life at all": {Token{AcquiredAt: at(0), Expiry: at(0)}, now, 1},
	} {
		if got := tc.token.Share(tc.at); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestNext(t *testing.T) {
	for name, tc := range map[string]struct {
		token Token
		gate  Gate
		next  Next
		at    time.Time
	}{
		"scheduled":         {Token{RefreshAt: at(time.Minute)}, Gate{}, NextRefresh, now.Add(time.Minute)},
		"due":               {Token{RefreshAt: at(0)}, Gate{BlockedUntil: at(time.Minute)}, NextDue, now},
		"overdue":           {Token{RefreshAt: at(-time.Minute)}, Gate{}, NextDue, now},
		"not planned":       {Token{}, Gate{}, NextDue, now},
		"held back":         {Token{RefreshAt: at(time.Minute), ConsecutiveFailures: 1}, Gate{BlockedUntil: at(time.Minute)}, NextThrottled, now.Add(time.Minute)},
		"held back longer":  {Token{RefreshAt: at(time.Minute)}, Gate{BlockedUntil: at(time.Hour)}, NextThrottled, now.Add(time.Hour)},
		"after the gate":    {Token{RefreshAt: at(time.Hour)}, Gate{BlockedUntil: at(time.Minute)}, NextRefresh, now.Add(time.Hour)},
		"not any more":      {Token{RefreshAt: at(time.Minute)}, Gate{BlockedUntil: at(-time.Minute)}, NextRefresh, now.Add(time.Minute)},
		"after a failure":   {Token{RefreshAt: at(time.Minute), ConsecutiveFailures: 1}, Gate{RetryAt: at(time.Minute)}, NextRetry, now.Add(time.Minute)},
		"of another client": {Token{Client: "other", RefreshAt: at(time.Minute)}, Gate{BlockedUntil: at(time.Minute)}, NextRefresh, now.Add(time.Minute)},
	} {
		s := Status{Now: now, Clients: []Client{{Gate: tc.gate}}}
		if next, at := s.nextOf(tc.token, s.gates()[tc.token.Client]); next != tc.next || !at.Equal(tc.at) {
			t.Errorf("%s: %s at %v, want %s at %v", name, next, at, tc.next, tc.at)
		}
	}
}

func TestClocks(t *testing.T) {
	for skew, want := range map[float64]string{
		0: "", 59.9: "", -59.9: "", 60: "the server's is 1m 0s ahead", -420.4: "the server's is 7m 0s behind",
	} {
		if got := (Client{ClockSkew: skew}).Clocks(); got != want {
			t.Errorf("%v seconds: %q, want %q", skew, got, want)
		}
	}
}

func TestValid(t *testing.T) {
	s := Status{Tokens: []Token{{Valid: true}, {}, {Valid: true}}}
	if got := s.Valid(); got != 2 {
		t.Errorf("%d valid, want 2", got)
	}
}
