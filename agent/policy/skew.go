package policy

import (
	"strings"
	"time"
)

// MaxSkew is the largest difference between two clocks that needs no warning: servers accept an assertion whose times
// are off by at most a few minutes.
const MaxSkew = time.Minute

// Skew returns by how much the server's clock is ahead of this host's, by the Date of an answer
// (RFC 9110, 6.6.1) that was received at the given time. It is accurate to a second plus the answer's transit time;
// ok is false without a readable Date.
func Skew(date string, received time.Time) (ahead time.Duration, ok bool) {
	at, readable := httpDate(strings.TrimSpace(date))
	if !readable {
		return 0, false
	}
	return at.Sub(received.Round(0)).Round(time.Second), true
}

// Skewed reports whether the clocks are too far apart.
func Skewed(ahead time.Duration) bool { return ahead.Abs() > MaxSkew }

// ShouldLog reports whether a repeated failure is still worth a log line: the first three, then fewer and fewer, so
// that an outage of days fills a page and not the disk.
func ShouldLog(failures int) bool {
	return failures <= 3 || failures&(failures-1) == 0 || failures%100 == 0
}
