package policy

import (
	"slices"
	"time"
)

// LongestBlock is the longest time that a gate can be blocked: the longest Retry-After with full jitter.
const LongestBlock = MaxRetryAfter + MaxRetryAfter/10

// RestoredBlock returns the end of a wait that the server asked for, by [Restored].
func RestoredBlock(until, saved, now time.Time) time.Time {
	return Restored(until, saved, now, LongestBlock)
}

// Restored returns an instant that an earlier process saved when its clock showed saved. If the clock has been set
// back since, the instant moves back with it, so that the remaining time is the same. It is never further ahead of
// now than longest, whatever was saved: a damaged file must not block anything for years. The result has now's
// monotonic reading, so that it is compared with both clocks like an instant of this process.
func Restored(at, saved, now time.Time, longest time.Duration) time.Time {
	if at.IsZero() {
		return at
	}
	if back := saved.Sub(now); back > 0 {
		at = at.Add(-back)
	}
	return now.Add(min(at.Sub(now), longest))
}

// Restored returns the gate that an earlier process saved when its clock showed saved.
func (g Gate) Restored(saved, now time.Time) Gate {
	g.BlockedUntil = Restored(g.BlockedUntil, saved, now, LongestBlock)
	g.RetryAt = Restored(g.RetryAt, saved, now, MaxProbe)
	g.Failures, g.Answers = max(g.Failures, 0), 0
	g.FailingSince = Restored(g.FailingSince, saved, now, 0)
	g.FailedAt = Restored(g.FailedAt, saved, now, 0)
	g.Recent = restoreRecent(g.Recent, saved, now, MaxInPace)
	return g
}

// Joined returns one gate from two tokens' records; g is from the later one. Only a wait that the server asked for is
// taken from the earlier one too, if it is longer.
func (g Gate) Joined(earlier Gate) Gate {
	g.BlockedUntil = latest(g.BlockedUntil, earlier.BlockedUntil)
	return g
}

// Restored returns the attempts that an earlier process saved when its clock showed saved.
func (a Attempts) Restored(saved, now time.Time) Attempts {
	a.RetryAt = Restored(a.RetryAt, saved, now, MaxProbe)
	a.Failures = max(a.Failures, 0)
	a.FailingSince = Restored(a.FailingSince, saved, now, 0)
	a.FailedAt = Restored(a.FailedAt, saved, now, 0)
	a.Recent = restoreRecent(a.Recent, saved, now, MaxInWindow)
	return a
}

// restoreRecent keeps the newest limit instants, oldest first.
func restoreRecent(recent []time.Time, saved, now time.Time, limit int) []time.Time {
	var restored []time.Time
	for _, at := range recent {
		restored = append(restored, Restored(at, saved, now, 0))
	}
	slices.SortFunc(restored, time.Time.Compare)
	return restored[max(0, len(restored)-limit):]
}
