package policy

import (
	"net/http"
	"strings"
	"time"
)

// RetryAfter reads a Retry-After header (RFC 9110, 10.2.3): seconds, or an HTTP date, which is read
// against the answer's own Date so that the host's clock does not matter; received stands in where
// there is none. The wait is at most [MaxRetryAfter]; capped says that more was asked. ok is false
// for a header that is absent or cannot be read.
func RetryAfter(value, date string, received time.Time) (wait time.Duration, capped, ok bool) {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0, false, false
	}
	if seconds, digits := parseSeconds(value); digits {
		return bound(seconds)
	}
	until, readable := httpDate(value)
	if !readable {
		return 0, false, false
	}
	from, readable := httpDate(strings.TrimSpace(date))
	if !readable {
		from = received
	}
	return bound(until.Sub(from))
}

// httpDate reads the three formats of RFC 9110, 5.6.7. Only the second could name a zone other than
// GMT, which it may not, and which would be read by the host's own time zone.
func httpDate(value string) (time.Time, bool) {
	at, err := http.ParseTime(value)
	named := strings.Contains(value, ",") && !strings.HasSuffix(value, " GMT")
	return at, err == nil && !named
}

// parseSeconds reads digits only; a number too large to hold is as large as can be.
func parseSeconds(value string) (time.Duration, bool) {
	var seconds int64
	for _, c := range []byte(value) {
		if c < '0' || c > '9' {
			return 0, false
		}
		if seconds < int64(2*MaxRetryAfter/time.Second) {
			seconds = seconds*10 + int64(c-'0')
		}
	}
	return time.Duration(seconds) * time.Second, true
}

func bound(wait time.Duration) (time.Duration, bool, bool) {
	if wait > MaxRetryAfter {
		return MaxRetryAfter, true, true
	}
	return max(wait, 0), false, true
}
