package policy

import "time"

// Hold explains why a refresh that somebody asks for may not be sent now, and how long that lasts. The
// zero value holds nothing back.
type Hold struct {
	Reason Reason
	For    time.Duration
}

// Reason is why something is held back.
type Reason int

// The reasons.
const (
	NotHeld     Reason = iota
	ServerAsked        // the server's Retry-After is not over
	JustFailed         // the last failure is less than MinRetry ago
	TooMany            // MaxInWindow requests were sent within Window
)

// Holding decides about a refresh that somebody asks for. It need not wait for the backoff of gate
// and token, which is a guess of our own, but for everything else: what the server asked for, the
// shortest retry, and the ceiling. The pace of a gate holds nothing back for longer than PaceWindow,
// so it is no reason to refuse.
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

// Expedited shortens the gate's own backoff to the shortest retry, because somebody asks for a request
// now. What the gate has learned stays: should that request fail, the backoff goes on from there.
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
