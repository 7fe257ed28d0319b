package agent

import (
	"testing"
	"testing/synctest"
	"time"

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
