package status

import "time"

// Phase says in a word how it stands with a token.
type Phase string

// The phases of a token.
const (
	PhaseNone    Phase = "none"    // there was no token yet
	PhaseGood    Phase = "good"    // it is valid, and so was the last request
	PhaseFailing Phase = "failing" // it is valid, but could not be refreshed so far
	PhaseExpired Phase = "expired" // it is not valid any more
)

// Phase returns how it stands with the token.
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

// Share returns how much of the token's life has passed at an instant, from 0 to 1. A token that
// was never there has no life: it is 0.
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

// Next says why a token's next request is made when it is planned.
type Next string

// What the next request of a token may be.
const (
	NextDue       Next = "due"       // it is to be made now, or under way
	NextThrottled Next = "throttled" // the server asked for nothing to be sent until then
	NextRetry     Next = "retry"     // after failures
	NextRefresh   Next = "refresh"   // as scheduled
)

// nextOf returns what a token's next request is, and when it is planned, as its client's gate stands.
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

// gates are the clients' gates by the clients' names.
func (s Status) gates() map[string]Gate {
	all := make(map[string]Gate, len(s.Clients))
	for _, c := range s.Clients {
		all[c.Name] = c.Gate
	}
	return all
}

// sameClock is how far apart two clocks may be and still be called the same.
const sameClock = time.Minute

// Clocks says by how much the server's clock is another than this host's; "" where nobody need know.
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

// Brief is what there is to say of a snapshot in a line. It can be had without making one.
type Brief struct {
	Now      time.Time
	Ready    bool
	NotReady []string // why not, one sentence each; of many not all
	Tokens   int
	Valid    int       // of the tokens
	Next     time.Time // when the next request is planned; zero where none is
}

// Brief returns what there is to say of the snapshot in a line.
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
