package agent

import (
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/internal/clockwatch"
)

// untold is a system that does not tell when its clock is set.
func untold() (clockWatch, error) { return nil, clockwatch.ErrNotTold }

// jumping is a clock that somebody sets.
type jumping chan struct{}

func (j jumping) Jumps() <-chan struct{} { return j }
func (jumping) Close() error             { return nil }

func TestClocksAreComparedWhenTheSystemTellsOfAJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture((&server{answer: good}).exchange, "a")
		clock := make(jumping)
		f.clock = clock
		f = remade(f, &server{answer: good}, f.agent.parts.config())
		stop := f.run(t.Context())
		defer stop()
		pass(5 * time.Second)
		clock <- struct{}{}
		synctest.Wait()
		if last := *f.agent.heartbeat.Load(); time.Since(last) != 0 {
			t.Errorf("the last look was %v ago", time.Since(last))
		}
	})
}

func TestClocksAreLookedAtAsOftenAsTheyHaveTo(t *testing.T) {
	for name, test := range map[string]struct {
		clock clockWatch
		every time.Duration
	}{
		"told of jumps":     {make(jumping), checkEvery},
		"not told of jumps": {nil, clockEvery},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture((&server{answer: good}).exchange, "a")
				if f.clock = test.clock; f.clock != nil {
					f.clock = make(jumping) // of this bubble
				}
				f = remade(f, &server{answer: good}, f.agent.parts.config())
				stop := f.run(t.Context())
				defer stop()
				for range 20 {
					pass(test.every)
					synctest.Wait()
					if last := *f.agent.heartbeat.Load(); time.Since(last) != 0 || !f.agent.Alive() {
						t.Errorf("the last look was %v ago, alive: %v", time.Since(last), f.agent.Alive())
					}
				}
			})
		})
	}
}

// Virtual time stands in for the monotonic clock, which knows nothing of a suspend; the clock since boot
// does. What the server asked for goes on during the suspend, and is never undercut.
func TestWaitGoesOnDuringASuspend(t *testing.T) {
	for name, tc := range map[string]struct {
		slept      time.Duration
		from, upto time.Duration // after the answer that asked for an hour, when the next request comes
	}{
		"for 50 minutes": {50 * time.Minute, 10 * time.Minute, 17 * time.Minute},
		"over its end":   {3 * time.Hour, time.Minute, 2 * time.Minute},
		"not at all":     {0, time.Hour, 67 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{answer: func(n int, _ arrival) (provider.Reply, error) {
					if n == 1 {
						return refusal(http.StatusTooManyRequests, "slow_down", "3600"), nil
					}
					return granted("one", time.Hour), nil
				}}
				f := newFixture(s.exchange, "a")
				clock, began, slept := make(jumping), time.Now(), atomic.Int64{}
				f.clock = clock
				f.boot = func() time.Duration { return time.Hour + time.Since(began) + time.Duration(slept.Load()) }
				f = remade(f, s, f.agent.parts.config())
				defer f.run(t.Context())()
				pass(time.Minute)
				slept.Store(int64(tc.slept))
				clock <- struct{}{} // the kernel tells of the resume
				pass(2 * time.Hour)
				asked := s.requests()
				if len(asked) < 2 {
					t.Fatalf("%d requests", len(asked))
				}
				if after := asked[1].at.Sub(asked[0].at); after < tc.from || after > tc.upto {
					t.Errorf("the next request came after %v, want %v to %v", after, tc.from, tc.upto)
				}
			})
		})
	}
}
