package policy

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Asked is the wait that a server asks for.
type Asked struct {
	For    time.Duration // at most [MaxRetryAfter]
	Known  bool          // there is a readable wait
	Capped bool          // it asked for more than [MaxRetryAfter]
	Unread string        // a header with an unreadable value, which counts as absent; "" for none
}

// RetryAfter reads the wait that an answer asks for: Retry-After (RFC 9110, 10.2.3) in the forms that servers send,
// and on a 429 without one the headers that some servers send instead. Of several values the longest counts. Dates
// are compared with the answer's own Date, so that this host's clock does not matter, or with received if there is
// none.
func RetryAfter(header http.Header, status int, received time.Time) Asked {
	from, readable := httpDate(strings.TrimSpace(header.Get("Date")))
	if !readable {
		from = received
	}
	asked := longest(header, "Retry-After", from, plainWait)
	if asked.Known || status != http.StatusTooManyRequests {
		return asked
	}
	for _, other := range []struct {
		name string
		read func(item string, from time.Time) (time.Duration, bool)
	}{
		{"Retry-After-Ms", milliseconds},
		{"X-Ms-Retry-After-Ms", milliseconds},
		{"Ratelimit-Reset", reset},
		{"Ratelimit", window},
		{"X-Ratelimit-Reset", reset},
		{"X-Rate-Limit-Reset", reset},
	} {
		found := longest(header, other.name, from, other.read)
		if asked.Unread != "" {
			found.Unread = asked.Unread
		}
		if asked = found; asked.Known {
			break
		}
	}
	return asked
}

// longest reads all values of a header, each of which may be a list.
func longest(header http.Header, name string, from time.Time, read func(string, time.Time) (time.Duration, bool)) Asked {
	var asked Asked
	for _, value := range header.Values(name) {
		for _, item := range items(value) {
			wait, readable := read(item, from)
			if !readable {
				asked.Unread = name
				continue
			}
			asked.Known = true
			asked.Capped = asked.Capped || wait > MaxRetryAfter
			asked.For = max(asked.For, min(wait, MaxRetryAfter))
		}
	}
	return asked
}

// items splits a list, but not at the comma of a date.
func items(value string) []string {
	var all []string
	parts := strings.Split(value, ",")
	for i := 0; i < len(parts); i++ {
		item := strings.TrimSpace(parts[i])
		if i+1 < len(parts) {
			if whole := item + ", " + strings.TrimSpace(parts[i+1]); isDate(whole) {
				item, i = whole, i+1
			}
		}
		if item = strings.TrimSpace(strings.Trim(item, `"`)); item != "" {
			all = append(all, item)
		}
	}
	return all
}

func isDate(text string) bool {
	_, ok := instant(text)
	return ok
}

// plainWait reads a value of Retry-After: a wait or an instant, possibly followed by a parameter or comment.
func plainWait(item string, from time.Time) (time.Duration, bool) {
	if end := strings.IndexAny(item, ";("); end > 0 { // a parameter, or a comment
		item = strings.TrimSpace(item[:end])
	}
	item = strings.TrimSpace(strings.TrimPrefix(strings.Trim(item, `"`), "+"))
	if until, ok := instant(item); ok {
		return max(until.Sub(from), 0), true
	}
	if _, err := strconv.ParseFloat(item, 64); err == nil {
		return reset(item, from)
	}
	return compound(item)
}

// compound reads an amount with or without a unit, or several of them in a row, as Go (1m30s) and ISO 8601
// (PT1M30S) write them.
func compound(item string) (time.Duration, bool) {
	upper := strings.ToUpper(item)
	inner, iso := strings.CutPrefix(upper, "PT")
	if days, rest, isDays := strings.Cut(strings.TrimPrefix(upper, "P"), "D"); !iso && isDays && upper[0] == 'P' {
		wait, readable := amount(days, 24*time.Hour)
		rest, hasTime := strings.CutPrefix(rest, "T")
		if !hasTime || !readable {
			return wait, readable && rest == ""
		}
		more, readable := compound("PT" + rest)
		return wait + more, readable
	}
	if !iso {
		inner = item
	}
	var sum time.Duration
	for first := true; first || inner != ""; first = false {
		digits := len(inner) - len(strings.TrimLeft(inner, "0123456789. "))
		unit := len(inner[digits:]) - len(strings.TrimLeft(inner[digits:], letters+"."))
		if iso && unit == 0 {
			return 0, false
		}
		wait, readable := quantity(inner[:digits+unit])
		if !readable || digits == 0 {
			return 0, false
		}
		sum, inner = min(sum+wait, MaxRetryAfter+time.Second), strings.TrimSpace(inner[digits+unit:])
	}
	return sum, true
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// window reads the draft's RateLimit, such as "default";r=0;t=60: with nothing left, the seconds to the next window.
// An earlier draft has a list, limit=10, remaining=0, reset=60.
func window(item string, from time.Time) (time.Duration, bool) {
	switch name, value, _ := strings.Cut(item, "="); strings.ToLower(strings.TrimSpace(name)) {
	case "reset":
		return reset(strings.TrimSpace(value), from)
	case "limit", "remaining":
		return 0, true
	}
	var wait time.Duration
	left, known := "0", false
	for _, parameter := range strings.Split(item, ";")[1:] {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		switch strings.TrimSpace(name) {
		case "r":
			left = strings.TrimSpace(value)
		case "t":
			wait, known = amount(strings.TrimSpace(value), time.Second)
		}
	}
	if left != "0" {
		wait = 0 // this limit was not the one exceeded
	}
	return wait, known
}

// quantity reads an amount, with or without a unit.
func quantity(item string) (time.Duration, bool) {
	digits := strings.TrimRight(item, letters+".")
	if rest := item[len(digits):]; strings.HasPrefix(rest, ".") && rest != "." {
		return 0, false // such as 1.s
	}
	unit, known := unitOf(strings.TrimSuffix(item[len(digits):], "."))
	if !known {
		return 0, false
	}
	return amount(strings.TrimSpace(digits), unit)
}

func unitOf(name string) (time.Duration, bool) {
	switch strings.ToLower(name) {
	case "", "s", "sec", "secs", "second", "seconds":
		return time.Second, true
	case "ms", "msec", "millis", "millisecond", "milliseconds":
		return time.Millisecond, true
	case "m", "min", "mins", "minute", "minutes":
		return time.Minute, true
	case "h", "hr", "hour", "hours":
		return time.Hour, true
	}
	return 0, false
}

func milliseconds(item string, _ time.Time) (time.Duration, bool) {
	return amount(item, time.Millisecond)
}

// reset reads when a limit is reset: in a number of seconds, or at an instant. No limit has a window of 30 years, so
// a number that large is an instant, in seconds or in milliseconds.
func reset(item string, from time.Time) (time.Duration, bool) {
	const leastSeconds, leastMilliseconds, lastMilliseconds = 1e9, 1e12, 1e13
	wait, readable := quantity(item)
	number, err := strconv.ParseFloat(item, 64)
	switch {
	case err != nil && !math.IsInf(number, 0):
		return plainWait(item, from)
	case !readable || number < leastSeconds || number >= lastMilliseconds:
		return wait, readable
	case number >= leastMilliseconds:
		number /= 1000
	}
	left := number - float64(from.UnixMilli())/1000
	if left < -MaxRetryAfter.Seconds() {
		return wait, true // no server sends an instant so long ago
	}
	return max(ceil(left, time.Second), 0), true
}

// amount reads a decimal number of a unit, rounded up to whole seconds and limited to the maximum.
func amount(digits string, unit time.Duration) (time.Duration, bool) {
	whole, fraction, _ := strings.Cut(digits, ".")
	if whole+fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, false
	}
	number, err := strconv.ParseFloat(digits, 64)
	if err != nil && !math.IsInf(number, 0) {
		return 0, false
	}
	return ceil(number, unit), true
}

// ceil returns a number of a unit rounded up to whole seconds, limited to a little more than is honoured.
func ceil(number float64, unit time.Duration) time.Duration {
	const bound = float64(MaxRetryAfter/time.Second) + 1
	seconds := math.Ceil(number * float64(unit) / float64(time.Second))
	return time.Duration(min(seconds, bound)) * time.Second
}

// instant reads the three formats of RFC 9110, 5.6.7, and other unambiguous instants.
func instant(text string) (time.Time, bool) {
	if at, ok := httpDate(text); ok {
		return at, true
	}
	for _, format := range []string{time.RFC3339, time.RFC1123Z, "Mon, 2 Jan 2006 15:04:05 GMT", "Mon, 2 Jan 2006 15:04:05 -0700"} {
		if at, err := time.Parse(format, text); err == nil {
			return at, true
		}
	}
	// The day of the week is redundant, so it may be missing or wrong.
	day, rest, named := strings.Cut(text, ",")
	if !named {
		rest = text
	}
	if !named || strings.Trim(day, letters) == "" {
		for _, format := range []string{"2 Jan 2006 15:04:05 GMT", "2 Jan 2006 15:04:05 -0700", "2-Jan-06 15:04:05 GMT"} {
			if at, err := time.Parse(format, strings.TrimSpace(rest)); err == nil {
				return at, true
			}
		}
	}
	if utc, ok := strings.CutSuffix(text, " UTC"); ok {
		return httpDate(utc + " GMT")
	}
	return time.Time{}, false
}

// httpDate reads the three formats of RFC 9110, 5.6.7. Only the second could name a zone other than GMT. That is not
// allowed, and would be interpreted by the host's own time zone.
func httpDate(value string) (time.Time, bool) {
	at, err := http.ParseTime(value)
	named := strings.Contains(value, ",") && !strings.HasSuffix(value, " GMT")
	return at, err == nil && !named
}
