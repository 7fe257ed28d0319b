package policy

import "time"

// Outcome is the part of a request's result that determines the wait.
type Outcome struct {
	Class         Class
	ClientWide    bool          // concerns every token of the client
	HasRetryAfter bool          // the server asked to wait
	RetryAfter    time.Duration // for how long
	TimedOut      time.Duration // the time limit that was exceeded; 0 if none was
	Sent          time.Time     // when the request was sent; zero if no other was under way meanwhile
}

// Gate is one client's retry state at one token endpoint: all its tokens wait together. It is a value; the methods
// return the next one.
type Gate struct {
	BlockedUntil time.Time   // from Retry-After; nothing ends it early
	RetryAt      time.Time   // our own backoff
	Failures     int         // in a row and of one kind, of requests that concern the client
	Lasting      bool        // those failures need a person
	FailingSince time.Time   // when the first of them failed
	FailedAt     time.Time   // when a request last failed; a success clears it
	Answers      int         // successful requests in a row, up to MaxUnderWay
	Recent       []time.Time // when the last MaxInPace requests were sent, oldest first
}

// MaxUnderWay returns how many requests may be under way at once. A single one finds out whether a server answers.
// With a slow server, tokens must not expire while they wait for each other. Each answer after the first allows one
// more, so that a server that can handle only a few does not get all at once, and short-lived processes do not use up
// each token's request limit.
func (g Gate) MaxUnderWay() int { return min(max(g.Answers, 1), MaxUnderWay) }

// AfterWait reports whether no request has succeeded since the server asked to wait.
func (g Gate) AfterWait() bool { return g.Answers == 0 && !g.BlockedUntil.IsZero() }

// Open reports whether a request may be sent now.
func (g Gate) Open(now time.Time) bool {
	return Passed(now, g.BlockedUntil) && Overdue(now, g.RetryAt) && Passed(now, g.paced())
}

// OpensAt returns when the next request may be sent.
func (g Gate) OpensAt() time.Time { return latest(g.BlockedUntil, g.RetryAt, g.paced()) }

// NextRequest is when a request that is planned will be sent, as far as the gate lets it.
func (g Gate) NextRequest(planned, now time.Time) time.Time {
	if opens := g.OpensAt(); opens.After(planned) && opens.After(now) {
		return opens
	}
	return planned
}

func (g Gate) paced() time.Time {
	if len(g.Recent) < MaxInPace {
		return time.Time{}
	}
	return g.Recent[len(g.Recent)-MaxInPace].Add(PaceWindow)
}

// Sent records that a request is being sent.
func (g Gate) Sent(now time.Time) Gate {
	g.Recent = remember(g.Recent, now, MaxInPace)
	return g
}

// Answered records the result of a request. A Retry-After only ever lengthens the wait: our own backoff runs in
// parallel, so that a server that asks for a second is not asked every second.
func (g Gate) Answered(now time.Time, o Outcome, r float64) Gate {
	if o.HasRetryAfter {
		g.BlockedUntil = latest(g.BlockedUntil, now.Add(blocked(o.RetryAfter, r)))
	}
	overtaken := !o.Sent.IsZero() && !o.Sent.After(g.FailedAt)
	switch {
	case o.Class != Success && o.ClientWide:
		g = g.failed(now, o, overtaken)
		g.RetryAt = now.Add(o.wait(g.Failures, r))
	case !overtaken: // otherwise a later request has newer information
		answers := min(g.Answers+1, MaxUnderWay)
		g = g.cleared()
		g.Answers = answers
	}
	return g
}

// failed counts a failure. Transient faults and faults that need a person have separate backoffs. Failures of
// concurrent requests count as one.
func (g Gate) failed(now time.Time, o Outcome, overtaken bool) Gate {
	if g.Failures == 0 || g.Lasting != o.Class.Lasting() {
		g.Failures, g.FailingSince, g.Lasting = 0, now, o.Class.Lasting()
		overtaken = false
	}
	if !overtaken {
		g.Failures++
	}
	g.FailedAt, g.Answers = now, 0
	return g
}

func (g Gate) cleared() Gate {
	return Gate{BlockedUntil: g.BlockedUntil, Recent: g.Recent}
}

// Blocked records a wait that the server asked another process for.
func (g Gate) Blocked(until time.Time) Gate {
	g.BlockedUntil = latest(g.BlockedUntil, until)
	return g
}

// Suspended shortens the wait by the time for which the host was suspended, which the monotonic reading of its
// instants does not include.
func (g Gate) Suspended(d time.Duration) Gate {
	if !g.BlockedUntil.IsZero() {
		g.BlockedUntil = g.BlockedUntil.Add(-d)
	}
	return g
}

// WithoutBackoff shortens the gate's own backoff to the shortest retry, because the credential or the configuration
// changed. A wait that the server asked for stays.
func (g Gate) WithoutBackoff() Gate {
	forgiven := g.cleared()
	if !g.FailedAt.IsZero() {
		forgiven.FailedAt, forgiven.RetryAt = g.FailedAt, g.FailedAt.Add(MinRetry)
	}
	return forgiven
}

// blocked adds jitter to a Retry-After, and limits it to between the shortest retry and the longest honoured wait.
func blocked(wait time.Duration, r float64) time.Duration {
	wait = min(max(wait, MinRetry), MaxRetryAfter)
	return wait + time.Duration(float64(wait)*jitter*r)
}

// wait returns our own wait after this many failures in a row.
func (o Outcome) wait(failures int, r float64) time.Duration {
	if o.Class.Lasting() {
		return Backoff(failures, MinProbe, MaxProbe, r)
	}
	return Backoff(failures, max(MinRetry, o.TimedOut), MaxRetry, r)
}

// remember appends an instant and keeps the newest limit of them, in fresh memory, because the
// old value may still be read elsewhere.
func remember(instants []time.Time, now time.Time, limit int) []time.Time {
	kept := instants[max(0, len(instants)-limit+1):]
	return append(append(make([]time.Time, 0, len(kept)+1), kept...), now)
}
