package policy

import (
	"strings"
	"time"
)

// MaxSkew is how far two clocks may be apart before a person should know: servers accept an
// assertion whose times are off by a few minutes at the most.
const MaxSkew = time.Minute

// Skew returns by how much the server's clock is ahead of this host's, by the Date of an answer
// (RFC 9110, 6.6.1) that was received at the given time. It is true to a second and the answer's
// time on the way; ok is false without a Date that can be read.
func Skew(date string, received time.Time) (ahead time.Duration, ok bool) {
	at, readable := httpDate(strings.TrimSpace(date))
	if !readable {
		return 0, false
	}
	return at.Sub(received.Round(0)).Round(time.Second), true
}

// Skewed reports whether the clocks are too far apart.
func Skewed(ahead time.Duration) bool { return ahead.Abs() > MaxSkew }

// ShouldLog reports whether a failure that is like the ones before it is still worth a line in the log:
// the first three, then ever fewer, so that an outage of days is a page and not a full disk.
func ShouldLog(failures int) bool {
	return failures <= 3 || failures&(failures-1) == 0 || failures%100 == 0
}
