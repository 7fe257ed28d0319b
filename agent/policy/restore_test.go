package policy_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

func TestRestored(t *testing.T) {
	const longest = 24 * time.Hour
	saved := epoch()
	tests := []struct {
		name    string
		at      time.Time
		elapsed time.Duration // on the wall clock, from saving to restoring
		want    time.Duration // from the restoring
	}{
		{"ahead, at once", saved.Add(time.Hour), 0, time.Hour},
		{"ahead, later", saved.Add(time.Hour), 20 * time.Minute, 40 * time.Minute},
		{"passed meanwhile", saved.Add(time.Hour), 3 * time.Hour, -2 * time.Hour},
		{"past", saved.Add(-time.Hour), time.Minute, -61 * time.Minute},
		{"ahead, the clock was set back", saved.Add(time.Hour), -72 * time.Hour, time.Hour},
		{"past, the clock was set back", saved.Add(-time.Hour), -72 * time.Hour, -time.Hour},
		{"too far ahead", saved.Add(longest + time.Second), 0, longest},
		{"not any more", saved.Add(longest + time.Second), time.Second, longest},
		{"centuries ahead", saved.AddDate(900, 0, 0), 0, longest},
		{"centuries ahead, the clock was set back", saved.AddDate(900, 0, 0), -72 * time.Hour, longest},
		{"saved in the far future", saved.AddDate(7000, 0, 0), -290 * 365 * 24 * time.Hour, longest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			now := saved.Add(test.elapsed)
			if got := policy.Restored(test.at, saved, now, longest).Sub(now); got != test.want {
				t.Errorf("it is %v from now, want %v", got, test.want)
			}
		})
	}
	if got := policy.Restored(time.Time{}, saved, saved, longest); !got.IsZero() {
		t.Errorf("no instant became %v", got)
	}
}

// TestRestoredFollowsBothClocks steps the wall clock after the restart.
func TestRestoredFollowsBothClocks(t *testing.T) {
	now := time.Now()
	until := policy.Restored(now.Add(time.Hour).Round(0), now.Round(0), now, 24*time.Hour)
	if !until.Round(0).Equal(now.Add(time.Hour).Round(0)) {
		t.Errorf("the wall clock's %v became %v", now.Add(time.Hour), until)
	}
	if policy.Passed(stepped(t, now.Add(time.Minute), 2*time.Hour), until) {
		t.Error("setting the clock forward ended a wait that the server asked for")
	}
	if !policy.Overdue(stepped(t, now.Add(time.Hour), -2*time.Hour), until) {
		t.Error("setting the clock back put off a wait of our own")
	}
}

func TestGateRestored(t *testing.T) {
	saved := epoch()
	now := saved.Add(time.Minute)
	times := func(seconds ...int) []time.Time {
		var all []time.Time
		for _, s := range seconds {
			all = append(all, saved.Add(time.Duration(s)*time.Second))
		}
		return all
	}
	far := saved.AddDate(50, 0, 0)
	for name, test := range map[string]struct{ saved, want policy.Gate }{
		"nothing": {policy.Gate{}, policy.Gate{}},
		"as it was": {
			policy.Gate{BlockedUntil: saved.Add(time.Hour), RetryAt: saved.Add(5 * time.Minute), Failures: 3, Lasting: true, FailingSince: saved.Add(-time.Hour), FailedAt: saved, Recent: times(-3, -2, -1, 0)},
			policy.Gate{BlockedUntil: saved.Add(time.Hour), RetryAt: saved.Add(5 * time.Minute), Failures: 3, Lasting: true, FailingSince: saved.Add(-time.Hour), FailedAt: saved, Recent: times(-3, -2, -1, 0)},
		},
		"absurd": {
			policy.Gate{BlockedUntil: far, RetryAt: far, Failures: -7, FailingSince: far, FailedAt: far, Recent: append(times(0, -5, -4, -9), far)},
			policy.Gate{BlockedUntil: now.Add(policy.MaxRetryAfter * 11 / 10), RetryAt: now.Add(policy.MaxProbe), FailingSince: now, FailedAt: now, Recent: append(times(-5, -4, 0), now)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.saved.Restored(saved, now); !reflect.DeepEqual(got, test.want) {
				t.Errorf("restored\n%+v, want\n%+v", got, test.want)
			}
		})
	}
}

func TestAttemptsRestored(t *testing.T) {
	saved := epoch()
	attempts := policy.Attempts{Failures: 2, Class: policy.Transient, FailingSince: saved.Add(-time.Minute), FailedAt: saved, RetryAt: saved.Add(10 * time.Second)}
	for i := range 20 {
		attempts.Recent = append(attempts.Recent, saved.Add(time.Duration(i-20)*time.Second))
	}
	want := attempts
	want.Recent = attempts.Recent[20-policy.MaxInWindow:]
	if got := attempts.Restored(saved, saved.Add(time.Second)); !reflect.DeepEqual(got, want) {
		t.Errorf("restored\n%+v, want\n%+v", got, want)
	}
	attempts.RetryAt, attempts.Failures = saved.AddDate(3, 0, 0), -1
	got := attempts.Restored(saved, saved)
	if got.Failures != 0 || !got.RetryAt.Equal(saved.Add(policy.MaxProbe)) {
		t.Errorf("%d failures, retry in %v", got.Failures, got.RetryAt.Sub(saved))
	}
}

// TestRestartsNeitherShortenNorStop restarts at random points, with the clock set back now and
// then. What the server asked for is never undercut, and nothing waits for longer than it may.
func TestRestartsNeitherShortenNorStop(t *testing.T) {
	for seed := range uint64(2000) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			wait := time.Duration(rng.Int64N(int64(30 * time.Hour)))
			wall, gate := epoch(), policy.Gate{}
			gate = gate.Sent(wall).Answered(wall, throttled(wait), rng.Float64())
			left := gate.OpensAt().Sub(wall)
			for range 5 {
				run := time.Duration(rng.Int64N(int64(2 * time.Hour)))
				wall, left = wall.Add(run), left-run
				down, back := time.Duration(rng.Int64N(int64(time.Hour))), time.Duration(0)
				if rng.IntN(2) == 0 {
					back = time.Duration(rng.Int64N(int64(1000 * time.Hour)))
				}
				saved := wall
				wall, left = wall.Add(down-back), left-down
				gate = gate.Restored(saved, wall)
				if opens := gate.OpensAt().Sub(wall); opens < left || opens > policy.MaxRetryAfter*11/10 {
					t.Fatalf("it opens in %v, but %v are left", opens, left)
				}
				left = max(left, gate.OpensAt().Sub(wall))
			}
		})
	}
}

func TestGateJoined(t *testing.T) {
	now := epoch()
	later := policy.Gate{BlockedUntil: now.Add(time.Minute), RetryAt: now.Add(time.Second), Failures: 1, FailedAt: now, Recent: []time.Time{now}}
	earlier := policy.Gate{BlockedUntil: now.Add(time.Hour), RetryAt: now.Add(time.Hour), Failures: 9, Recent: []time.Time{now, now}}
	want := later
	want.BlockedUntil = earlier.BlockedUntil
	if got := later.Joined(earlier); !reflect.DeepEqual(got, want) {
		t.Errorf("joined %+v, want %+v", got, want)
	}
	earlier.BlockedUntil = now
	if got := later.Joined(earlier); !reflect.DeepEqual(got, later) {
		t.Errorf("joined %+v, want %+v", got, later)
	}
	if !slices.Equal(later.Recent, []time.Time{now}) {
		t.Error("joining changed what it was given")
	}
}
