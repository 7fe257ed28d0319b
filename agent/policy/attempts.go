package policy

import "time"

// Attempts is one token's retry state at its gate: failures, backoff and recent requests. It is a value; the methods
// return the next one.
type Attempts struct {
	Failures     int         // in a row and of one kind
	FailingSince time.Time   // when the first of them failed
	FailedAt     time.Time   // when a request last failed; a success clears it
	RetryAt      time.Time   // our own backoff
	Class        Class       // of the last attempt
	Recent       []time.Time // when the last MaxInWindow requests were sent, oldest first
}

// Ready reports whether the token may request now.
func (a Attempts) Ready(now time.Time) bool {
	return Overdue(now, a.RetryAt) && Passed(now, a.windowed())
}

// ReadyAt returns when the token may make its next request.
func (a Attempts) ReadyAt() time.Time { return latest(a.RetryAt, a.windowed()) }

func (a Attempts) windowed() time.Time {
	if len(a.Recent) < MaxInWindow {
		return time.Time{}
	}
	return a.Recent[len(a.Recent)-MaxInWindow].Add(Window)
}

// Sent records that a request was sent.
func (a Attempts) Sent(at time.Time) Attempts {
	a.Recent = remember(a.Recent, at, MaxInWindow)
	return a
}

// Answered records the result of a request. The gate handles the wait that the server asked for.
func (a Attempts) Answered(now time.Time, o Outcome, r float64) Attempts {
	before := a.Class
	a.Class = o.Class
	if o.Class == Success {
		return Attempts{Class: Success, Recent: a.Recent}
	}
	if a.Failures == 0 || before.Lasting() != o.Class.Lasting() {
		a.Failures, a.FailingSince = 0, now
	}
	a.Failures++
	a.FailedAt = now
	a.RetryAt = now.Add(o.wait(a.Failures, r))
	return a
}

// WithoutBackoff shortens the token's own backoff to the shortest retry, because the credential or the configuration
// changed.
func (a Attempts) WithoutBackoff() Attempts {
	forgiven := Attempts{Class: a.Class, Recent: a.Recent}
	if !a.FailedAt.IsZero() {
		forgiven.FailedAt, forgiven.RetryAt = a.FailedAt, a.FailedAt.Add(MinRetry)
	}
	return forgiven
}

// Recovered shortens the backoff of a token whose failures all belong to an outage of the gate,
// which began at since and has just ended. A token with failures of its own keeps waiting.
func (a Attempts) Recovered(now, since time.Time) Attempts {
	if a.Failures == 0 || a.Class.Lasting() || a.FailingSince.Before(since) {
		return a
	}
	if soon := now.Add(MinRetry); a.RetryAt.After(soon) {
		a.RetryAt = soon
	}
	return a
}
