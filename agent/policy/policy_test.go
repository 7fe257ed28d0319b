package policy_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/credagent/credagent/agent/policy"
)

// almostOne is the largest r there is.
const almostOne = 1 - 1.0/(1<<53)

// epoch is an instant of the wall clock alone.
func epoch() time.Time { return time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC) }

// stepped returns the instant as it is read after the wall clock was set by whole seconds: the
// monotonic reading stays. Package time has no way to say that, so this reaches into time.Time and
// checks what it did.
func stepped(t *testing.T, at time.Time, by time.Duration) time.Time {
	t.Helper()
	const secondsShift = 30
	after := at
	layout := (*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&after))
	layout.wall += uint64(by/time.Second) << secondsShift
	if after.Sub(at) != 0 || after.Round(0).Sub(at.Round(0)) != by {
		t.Fatalf("stepping %v by %v brought %v", at, by, after)
	}
	return after
}

func TestNumbersOfTheContract(t *testing.T) {
	tests := []struct {
		name      string
		got, want time.Duration
	}{
		{"shortest retry", policy.MinRetry, 5 * time.Second},
		{"longest retry", policy.MaxRetry, 5 * time.Minute},
		{"shortest probe", policy.MinProbe, time.Minute},
		{"longest probe", policy.MaxProbe, 15 * time.Minute},
		{"longest Retry-After", policy.MaxRetryAfter, 24 * time.Hour},
		{"window", policy.Window, time.Minute},
		{"assumed life", policy.AssumedLife, 300 * time.Second},
		{"longest life", policy.MaxLife, 87_600 * time.Hour},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("%s is %v, want %v", test.name, test.got, test.want)
		}
	}
	if policy.MaxInWindow != 12 {
		t.Errorf("%d requests are allowed in a window, want 12", policy.MaxInWindow)
	}
}

func TestRefreshAt(t *testing.T) {
	tests := []struct {
		name            string
		life, refreshIn time.Duration
		share, r        float64
		want            time.Duration
	}{
		{"share of the life", time.Hour, 0, 0.5, 0, 30 * time.Minute},
		{"share, a tenth earlier", time.Hour, 0, 0.5, 1, 27 * time.Minute},
		{"share, half the jitter", time.Hour, 0, 0.5, 0.5, 28*time.Minute + 30*time.Second},
		{"the server's wish wins", time.Hour, 40 * time.Minute, 0.5, 0, 40 * time.Minute},
		{"the server's wish, a tenth earlier", time.Hour, 40 * time.Minute, 0.5, 1, 36 * time.Minute},
		{"an early wish", time.Hour, time.Minute, 0.5, 0, time.Minute},
		{"a wish at the end of the life does not count", time.Hour, time.Hour, 0.5, 0, 30 * time.Minute},
		{"a wish after the life does not count", time.Hour, 24 * time.Hour, 0.5, 0, 30 * time.Minute},
		{"a negative wish does not count", time.Hour, -time.Minute, 0.5, 0, 30 * time.Minute},
		{"a wish just before the end counts", time.Hour, time.Hour - 1, 0.5, 0, time.Hour - 1},
		{"a short life", 8 * time.Second, 0, 0.5, 1, policy.MinRetry},
		{"a wish of a second", time.Hour, time.Second, 0.5, 0, policy.MinRetry},
		{"jitter does not go below the floor", 11 * time.Second, 0, 0.5, 1, policy.MinRetry},
		{"no life at all", 0, 0, 0.5, 0, policy.MinRetry},
		{"the longest life", policy.MaxLife, 0, 0.5, 0, policy.MaxLife / 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sent := epoch()
			got := policy.RefreshAt(sent, sent.Add(test.life), test.refreshIn, test.share, test.r)
			if wait := got.Sub(sent); wait != test.want {
				t.Errorf("refresh %v after sent, want %v", wait, test.want)
			}
		})
	}
}

func TestRefreshAtIsNeverLateAndAtMostATenthEarly(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, seed))
	for range 20_000 {
		life := time.Duration(rng.Int64N(int64(48*time.Hour))) + 1
		refreshIn := time.Duration(rng.Int64N(int64(2*life))) - life/2
		share, r := 0.01+0.98*rng.Float64(), rng.Float64()
		sent := epoch()
		wait := policy.RefreshAt(sent, sent.Add(life), refreshIn, share, r).Sub(sent)

		planned := time.Duration(float64(life) * share)
		if 0 < refreshIn && refreshIn < life {
			planned = refreshIn
		}
		late := wait > max(planned, policy.MinRetry)
		early := wait < max(planned-planned/10-1, policy.MinRetry)
		if late || early {
			t.Fatalf("seed %d: life %v, refresh_in %v, share %v, r %v: refresh after %v, planned %v", seed, life, refreshIn, share, r, wait, planned)
		}
	}
}

func TestBackoff(t *testing.T) {
	const s, m = time.Second, time.Minute
	tests := []struct {
		name              string
		failures          int
		shortest, longest time.Duration
		low, high         time.Duration // at r 0 and just below r 1
	}{
		{"the first failure", 1, 5 * s, 5 * m, 5 * s, 7500 * time.Millisecond},
		{"no failure counts as the first", 0, 5 * s, 5 * m, 5 * s, 7500 * time.Millisecond},
		{"a negative count counts as the first", -3, 5 * s, 5 * m, 5 * s, 7500 * time.Millisecond},
		{"the second doubles", 2, 5 * s, 5 * m, 10 * s, 15 * s},
		{"the third doubles again", 3, 5 * s, 5 * m, 20 * s, 30 * s},
		{"the sixth", 6, 5 * s, 5 * m, 160 * s, 240 * s},
		{"the seventh is capped", 7, 5 * s, 5 * m, 200 * s, 5 * m},
		{"a thousandth stays there", 1000, 5 * s, 5 * m, 200 * s, 5 * m},
		{"more than can be counted", math.MaxInt, 5 * s, 5 * m, 200 * s, 5 * m},
		{"a slow probe", 1, m, 15 * m, m, 90 * s},
		{"a late slow probe", 50, m, 15 * m, 10 * m, 15 * m},
		{"the spread stops at longest", 1, 4 * m, 5 * m, 4 * m, 5 * m},
		{"shortest is longest", 1, 5 * m, 5 * m, 5 * m, 5 * m},
		{"shortest is more than longest", 1, 10 * m, 5 * m, 10 * m, 10 * m},
		{"and stays so", 9, 10 * m, 5 * m, 10 * m, 10 * m},
		{"nothing to double", math.MaxInt, 0, 9 * s, 6 * s, 9 * s},
		{"as long as can be", 1, math.MaxInt64, m, math.MaxInt64, math.MaxInt64},
		{"half of that, doubled", 2, math.MaxInt64 / 2, math.MaxInt64, math.MaxInt64 / 3 * 2, math.MaxInt64},
		{"more than half of that, doubled", 3, math.MaxInt64/2 + 2, math.MaxInt64, math.MaxInt64 / 3 * 2, math.MaxInt64},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			// A nanosecond either way is float64's business, and for centuries a microsecond.
			slack := max(1, test.high>>50)
			if got := policy.Backoff(test.failures, test.shortest, test.longest, 0); (got - test.low).Abs() > slack {
				t.Errorf("at r = 0 it is %v, want %v", got, test.low)
			}
			if got := policy.Backoff(test.failures, test.shortest, test.longest, almostOne); got > test.high || test.high-got > slack {
				t.Errorf("at the largest r it is %v, want %v", got, test.high)
			}
		})
	}
}

func TestBackoffKeepsItsBounds(t *testing.T) {
	const seed = 2
	rng := rand.New(rand.NewPCG(seed, seed))
	for range 20_000 {
		failures := rng.IntN(40)
		if rng.IntN(4) == 0 {
			failures = int(rng.Int64())
		}
		shortest := time.Duration(rng.Int64() >> rng.IntN(63))
		longest := time.Duration(rng.Int64() >> rng.IntN(63))
		r, more := rng.Float64(), rng.Float64()
		wait := policy.Backoff(failures, shortest, longest, r)
		about := fmt.Sprintf("seed %d: Backoff(%d, %d, %d, %v) = %d", seed, failures, shortest, longest, r, wait)
		if wait < shortest || wait > max(shortest, longest) {
			t.Fatal(about, "is out of bounds")
		}
		if other := policy.Backoff(failures, shortest, longest, max(r, more)); other < wait {
			t.Fatal(about, "and a larger r gives", other)
		}
		if next := policy.Backoff(max(failures, 1)+1, shortest, longest, r); failures < math.MaxInt && next < wait {
			t.Fatal(about, "and one more failure gives", next)
		}
	}
}

func TestSinkRetry(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 100: 40 * time.Second} {
		if got := policy.SinkRetry(failures, 0); got != want {
			t.Errorf("after %d failures it is %v, want %v", failures, got, want)
		}
	}
	if got := policy.SinkRetry(100, almostOne); got > time.Minute {
		t.Errorf("it is %v, want a minute at most", got)
	}
}

func TestOverdueAndPassed(t *testing.T) {
	const minute = time.Minute
	before := time.Now()
	after := stepped(t, before, time.Hour)
	tests := []struct {
		name            string
		now, at         time.Time
		overdue, passed bool
	}{
		{"never set", before, time.Time{}, true, true},
		{"at the instant", epoch(), epoch(), true, true},
		{"just before", epoch(), epoch().Add(1), false, false},
		{"just after", epoch().Add(1), epoch(), true, true},
		{"both clocks before", before, before.Add(minute), false, false},
		{"both clocks after", before.Add(minute), before, true, true},
		{"the wall clock was set forward", after.Add(minute), before.Add(2 * minute), true, false},
		{"and the wait is over", after.Add(2 * minute), before.Add(2 * minute), true, true},
		{"the wall clock was set back", before.Add(minute), after.Add(2 * minute), false, false},
		{"the wall clock was set back and the wait is over", before.Add(2 * minute), after.Add(2 * minute), true, true},
		{"an instant from disk that came with the step", after, before.Add(minute).Round(0), true, true},
		{"an instant from disk still to come", before, after.Round(0), false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := policy.Overdue(test.now, test.at); got != test.overdue {
				t.Errorf("Overdue = %v, want %v", got, test.overdue)
			}
			if got := policy.Passed(test.now, test.at); got != test.passed {
				t.Errorf("Passed = %v, want %v", got, test.passed)
			}
		})
	}
}

func TestAgainAtKeepsTheFloorAndDoubles(t *testing.T) {
	sent := epoch()
	for _, test := range []struct {
		life  time.Duration
		again int
		want  time.Duration
	}{
		{time.Second, 0, policy.MinRetry}, {3 * time.Second, 0, policy.MinRetry}, {0, 1, policy.MinRetry},
		{time.Hour, 0, time.Hour + time.Second}, {0, 4, 8 * time.Second}, {0, 5, 16 * time.Second},
	} {
		if got := policy.AgainAt(sent, sent.Add(test.life), test.again, 0).Sub(sent); got != test.want {
			t.Errorf("life %v, again %d: %v after the request, want %v", test.life, test.again, got, test.want)
		}
	}
}

func TestWholeSeconds(t *testing.T) {
	for wait, want := range map[time.Duration]time.Duration{
		-time.Hour:                     time.Second,
		0:                              time.Second,
		1:                              time.Second,
		time.Second:                    time.Second,
		time.Second + 1:                2 * time.Second,
		time.Hour - time.Nanosecond:    time.Hour,
		24*time.Hour + time.Nanosecond: 24*time.Hour + time.Second,
	} {
		if got := policy.WholeSeconds(wait); got != want {
			t.Errorf("WholeSeconds(%v) = %v, want %v", wait, got, want)
		}
	}
}
