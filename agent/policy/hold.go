package policy

import "time"

// Hold explains why a requested refresh may not be sent now, and for how long. The zero value means that it may.
type Hold struct {
	Reason Reason
	For    time.Duration
}

// Reason is why a refresh is held back.
type Reason int

// The reasons.
const (
	NotHeld     Reason = iota
	ServerAsked        // the server's Retry-After is not over
	JustFailed         // the last failure is less than MinRetry ago
	TooMany            // MaxInWindow requests were sent within Window
)

// Holding decides about a requested refresh. It need not wait for the backoff of gate and token, which is only our
// own estimate, but for everything else: the server's wait, the shortest retry, and the ceiling. The rate limit of a
// gate delays nothing longer than PaceWindow, so it is not a reason to refuse.
func Holding(now time.Time, g Gate, a Attempts) Hold {
	g, a = g.Expedited(), a.Expedited()
	var longest Hold
	for _, wait := range []struct {
		reason Reason
		until  time.Time
		over   bool
	}{
		{ServerAsked, g.BlockedUntil, Passed(now, g.BlockedUntil)},
		{TooMany, a.windowed(), Passed(now, a.windowed())},
		{JustFailed, g.RetryAt, Overdue(now, g.RetryAt)},
		{JustFailed, a.RetryAt, Overdue(now, a.RetryAt)},
	} {
		if left := wait.until.Sub(now); !wait.over && left > longest.For {
			longest = Hold{wait.reason, left}
		}
	}
	return longest
}

// Expedited shortens the gate's own backoff to the shortest retry, because a refresh was requested. The failure count
// is kept: if that request fails, the backoff continues from there.
func (g Gate) Expedited() Gate {
	g.RetryAt = pressed(g.RetryAt, g.FailedAt)
	return g
}

// Expedited shortens the token's own backoff to the shortest retry, as [Gate.Expedited] does.
func (a Attempts) Expedited() Attempts {
	a.RetryAt = pressed(a.RetryAt, a.FailedAt)
	return a
}

func pressed(retryAt, failedAt time.Time) time.Time {
	if soonest := failedAt.Add(MinRetry); !failedAt.IsZero() && retryAt.After(soonest) {
		return soonest
	}
	return retryAt
}
