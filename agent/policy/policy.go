// Package policy decides when to refresh, how long to wait, what class a failure is, and whether a request may be
// sent now. It is pure: functions of values, with no clock, network or disk, and with randomness passed in as a
// number r in [0, 1). The daemon around it only carries out the decisions.
//
// Instants may carry Go's monotonic reading. Within one process a wait that the server asked for
// is measured by it, so a stepped clock cannot shorten it; instants restored from disk use the wall clock.
package policy

import "time"

// The documented limits and times.
const (
	// MinRetry is the shortest time from a failure to the next request.
	MinRetry = 5 * time.Second
	// MaxRetry limits the exponential backoff.
	MaxRetry = 5 * time.Minute
	// MinProbe and MaxProbe limit the slow probe after a refusal that waiting does not fix.
	MinProbe = time.Minute
	MaxProbe = 15 * time.Minute
	// MaxRetryAfter is the longest Retry-After that is honoured in full.
	MaxRetryAfter = 24 * time.Hour
	// Window and MaxInWindow limit the requests of one token at one gate, whatever happens.
	Window      = time.Minute
	MaxInWindow = 12
	// PaceWindow and MaxInPace spread the requests of many tokens through one gate.
	PaceWindow = time.Second
	MaxInPace  = 4
	// MaxUnderWay limits the concurrent requests of one gate.
	MaxUnderWay = 8
	// AssumedLife is the lifetime of a token whose answer has no expires_in.
	AssumedLife = 5 * time.Minute
	// MaxLife is the longest lifetime that an answer may claim.
	MaxLife = 10 * 365 * 24 * time.Hour
)

// jitter is the maximum share by which waits are lengthened and refreshes brought forward.
const jitter = 0.1

// RefreshAt returns when to replace a token: at refreshIn after sent if the server said so, else at
// share of its life, up to a tenth earlier. It is never less than MinRetry after sent, because a token with a
// lifetime of seconds must not cause a stream of requests.
func RefreshAt(sent, expiry time.Time, refreshIn time.Duration, share, r float64) time.Time {
	life := expiry.Sub(sent)
	at := time.Duration(float64(life) * share)
	if refreshIn > 0 && refreshIn < life {
		at = refreshIn
	}
	at -= time.Duration(float64(at) * jitter * r)
	return sent.Add(max(at, MinRetry))
}

// SameLife is by how much the expiry of an unchanged token may appear to vary, because the server counts in whole
// seconds.
const SameLife = 2 * time.Second

// AgainAt returns when to ask again if a server returns the same token until it expires: a second after the expiry,
// because it counts in whole seconds. Each time that the token is still the same (again counts them) the wait
// doubles. It is never sooner than [MinRetry] after the request, however short the lifetime.
func AgainAt(sent, expiry time.Time, again int, r float64) time.Time {
	wait := Backoff(again, time.Second, MaxRetry, 0)
	return latest(sent.Add(MinRetry), latest(sent, expiry).Add(wait+time.Duration(float64(wait)*jitter*r)))
}

// Backoff returns the wait before the next request after this many failures in a row: exponential from shortest,
// doubling up to longest, spread by r over half of itself. No wait is below shortest, even if that is more than
// longest.
func Backoff(failures int, shortest, longest time.Duration, r float64) time.Duration {
	longest = max(longest, shortest)
	step := max(shortest, 1)
	for range max(failures, 1) - 1 {
		if step >= longest/2 {
			step = longest // doubling would pass it, and might overflow
			break
		}
		step *= 2
	}
	high := step + min(step/2, longest-step)
	low := max(high-high/3, shortest)
	return low + time.Duration(float64(high-low)*r)
}

// SinkRetry returns the wait before the next try of a sink that could not be written.
func SinkRetry(failures int, r float64) time.Duration {
	return Backoff(failures, time.Second, time.Minute, r)
}

// AfterWait returns when to try again after somebody asked for a wait. Jitter spreads those who wait for the same thing
// over the same time again.
func AfterWait(asked time.Duration, r float64) time.Duration {
	return asked + time.Duration(float64(asked)*r)
}

// Overdue reports whether an instant that we have planned has passed, by either clock: after a suspend only the wall
// clock is right, after the clock was set back only the monotonic one.
func Overdue(now, at time.Time) bool {
	return !now.Before(at) || !now.Round(0).Before(at.Round(0))
}

// Passed reports whether a wait that the server asked for is over. A clock set forward does not end it.
func Passed(now, until time.Time) bool { return !now.Before(until) }

// WholeSeconds rounds a wait up to whole seconds, at least one, so that a reported wait is never too short.
func WholeSeconds(wait time.Duration) time.Duration {
	return max((wait + time.Second - 1).Truncate(time.Second), time.Second)
}

func latest(instants ...time.Time) time.Time {
	var last time.Time
	for _, t := range instants {
		if t.After(last) {
			last = t
		}
	}
	return last
}
