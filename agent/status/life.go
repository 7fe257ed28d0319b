package status

import "time"

// Phase is the phase of a token's life, in one word.
type Phase string

// The phases of a token.
const (
	PhaseNone    Phase = "none"    // there was no token yet
	PhaseGood    Phase = "good"    // it is valid, and so was the last request
	PhaseFailing Phase = "failing" // it is valid, but could not be refreshed so far
	PhaseExpired Phase = "expired" // it is no longer valid
)

// Phase returns the phase of the token's life.
func (t Token) Phase() Phase {
	switch {
	case t.AcquiredAt == nil || t.Expiry == nil:
		return PhaseNone
	case !t.Valid:
		return PhaseExpired
	case t.ConsecutiveFailures > 0:
		return PhaseFailing
	}
	return PhaseGood
}

// Share returns how much of the token's lifetime has passed at an instant, from 0 to 1. It is 0 before the first
// token.
func (t Token) Share(at time.Time) float64 {
	if t.AcquiredAt == nil || t.Expiry == nil {
		return 0
	}
	life := t.Expiry.Sub(*t.AcquiredAt)
	if life <= 0 {
		return 1
	}
	return max(0, min(1, float64(at.Sub(*t.AcquiredAt))/float64(life)))
}

// Next is the reason for the planned time of a token's next request.
type Next string

// The reasons for a token's next request.
const (
	NextDue       Next = "due"       // it is due now, or under way
	NextThrottled Next = "throttled" // the server asked to wait until then
	NextRetry     Next = "retry"     // after failures
	NextRefresh   Next = "refresh"   // as scheduled
)

// nextOf returns the reason for a token's next request, and its planned time, given its client's gate.
func (s Status) nextOf(t Token, g Gate) (Next, time.Time) {
	if t.RefreshAt == nil || !t.RefreshAt.After(s.Now) {
		return NextDue, s.Now
	}
	switch opens := g.BlockedUntil; {
	case opens != nil && !t.RefreshAt.After(*opens):
		return NextThrottled, *opens
	case t.ConsecutiveFailures > 0:
		return NextRetry, *t.RefreshAt
	}
	return NextRefresh, *t.RefreshAt
}

// gates returns the clients' gates by client name.
func (s Status) gates() map[string]Gate {
	all := make(map[string]Gate, len(s.Clients))
	for _, c := range s.Clients {
		all[c.Name] = c.Gate
	}
	return all
}

// sameClock is the largest difference between clocks that counts as the same.
const sameClock = time.Minute

// Clocks describes by how much the server's clock differs from this host's; "" if the difference is small.
func (c Client) Clocks() string {
	switch skew := time.Duration(c.ClockSkew * float64(time.Second)); {
	case skew >= sameClock:
		return "the server's is " + Span(skew) + " ahead"
	case skew <= -sameClock:
		return "the server's is " + Span(-skew) + " behind"
	}
	return ""
}

// Valid returns how many of the snapshot's tokens are valid.
func (s Status) Valid() int { return s.Brief().Valid }

// Brief is a snapshot in one line. It can be computed without making a snapshot.
type Brief struct {
	Now      time.Time
	Ready    bool
	NotReady []string // the reasons, one sentence each; not all if there are many
	Tokens   int
	Valid    int       // of the tokens
	Next     time.Time // when the next request is planned; zero if none is
}

// Brief returns the snapshot in one line.
func (s Status) Brief() Brief {
	b := Brief{Now: s.Now, Ready: s.Ready, NotReady: s.NotReady, Tokens: len(s.Tokens)}
	for _, t := range s.Tokens {
		if t.Valid {
			b.Valid++
		}
		if t.RefreshAt != nil && (b.Next.IsZero() || t.RefreshAt.Before(b.Next)) {
			b.Next = *t.RefreshAt
		}
	}
	return b
}
