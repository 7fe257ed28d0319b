package worker

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// diary is a worker that notes when it did what, in seconds.
type diary struct {
	*Worker
	begun time.Time
	lines []string // owned by the worker
	steps int
}

func newDiary(step func(d *diary, n int)) *diary {
	d := &diary{begun: time.Now()}
	d.Worker = New(func() {
		d.steps++
		d.note("step")
		if step != nil {
			step(d, d.steps)
		}
	})
	return d
}

func (d *diary) note(what string) {
	d.lines = append(d.lines, time.Since(d.begun).Truncate(time.Second).String()+" "+what)
}

func pass(d time.Duration) { <-time.After(d) }

// story is what a worker is made to do, and what it does then.
type story struct {
	step func(*diary, int)
	do   func(*diary)
	want []string
}

func TestPostsAndWakes(t *testing.T) {
	slow := func(*diary, int) { pass(2 * time.Second) }
	play(t, map[string]story{
		"nothing posted": {nil, (*diary).start, nil},
		"a wake": {nil, func(d *diary) {
			d.start()
			d.Wake()
		}, []string{"0s step"}},
		"posts run in their order, before a step": {nil, func(d *diary) {
			d.Post(func() { d.note("a") })
			d.Post(func() { d.note("b") })
			d.start()
		}, []string{"0s a", "0s b", "0s step"}},
		"wakes during a step coalesce": {slow, func(d *diary) {
			d.start()
			for range 5 {
				d.Wake()
				pass(time.Second / 4)
			}
		}, []string{"0s step", "2s step"}},
		"a post during a step is followed by another": {slow, func(d *diary) {
			d.start()
			d.Wake()
			pass(time.Second)
			d.Post(func() { d.note("a") })
		}, []string{"0s step", "2s a", "2s step"}},
		"a second start does nothing": {nil, func(d *diary) {
			d.Wake()
			d.start()
			d.start()
		}, []string{"0s step"}},
	})
}

func TestRetry(t *testing.T) {
	failsOnce := func(d *diary, n int) {
		pass(2 * time.Second)
		if n == 1 {
			d.Retry(10 * time.Second)
		}
	}
	play(t, map[string]story{
		"a retry": {func(d *diary, n int) {
			if n < 3 {
				d.Retry(time.Duration(n) * 10 * time.Second)
			}
		}, func(d *diary) {
			d.start()
			d.Wake()
		}, []string{"0s step", "10s step", "30s step"}},
		"a wake before the retry is in its place": {func(d *diary, n int) {
			if n == 1 {
				d.Retry(10 * time.Second)
			}
		}, func(d *diary) {
			d.start()
			d.Wake()
			pass(5 * time.Second)
			d.Wake()
		}, []string{"0s step", "5s step"}},
		"a wake during a step that fails waits for the retry": {failsOnce, func(d *diary) {
			d.start()
			d.Wake()
			pass(time.Second)
			d.Wake()
		}, []string{"0s step", "12s step"}},
		"a post during a step that fails does not": {failsOnce, func(d *diary) {
			d.start()
			d.Wake()
			pass(time.Second)
			d.Post(func() { d.note("a") })
		}, []string{"0s step", "2s a", "2s step"}},
	})
}

func play(t *testing.T, stories map[string]story) {
	for name, tc := range stories {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDiary(tc.step)
				tc.do(d)
				pass(time.Minute)
				if !d.Stop(t.Context()) || d.Busy() {
					t.Error("it has not finished")
				}
				if !slices.Equal(d.lines, tc.want) {
					t.Errorf("it did %q, want %q", d.lines, tc.want)
				}
			})
		})
	}
}

func (d *diary) start() { d.Start() }

func TestStop(t *testing.T) {
	for name, tc := range map[string]struct {
		takes    time.Duration // a step
		before   func(*diary)
		after    func(*diary) // a second Stop follows it
		took     time.Duration
		finished bool
		want     []string
	}{
		"idle":    {0, func(*diary) {}, nil, 0, true, nil},
		"running": {2 * time.Second, func(d *diary) { d.Wake() }, nil, 2 * time.Second, true, []string{"0s step"}},
		"what was posted before still runs": {2 * time.Second, func(d *diary) {
			d.Wake()
			d.Post(func() { d.note("a") })
		}, nil, 2 * time.Second, true, []string{"0s a", "0s step"}},
		"a step that hangs":  {time.Hour, func(d *diary) { d.Wake() }, nil, 5 * time.Second, false, []string{"0s step"}},
		"a post comes late":  {0, func(*diary) {}, func(d *diary) { d.Post(func() { d.note("late") }) }, 0, false, nil},
		"a wake comes late":  {0, func(*diary) {}, func(d *diary) { d.Wake() }, 0, false, nil},
		"a retry is dropped": {0, func(d *diary) { d.Post(func() { d.Retry(time.Second) }) }, nil, 0, true, []string{"0s step"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDiary(func(*diary, int) { pass(tc.takes) })
				d.Start()
				tc.before(d)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				begun := time.Now()
				finished := d.Stop(ctx)
				if tc.after != nil {
					tc.after(d)
					finished = d.Stop(ctx)
				}
				if took := time.Since(begun); finished != tc.finished || took != tc.took {
					t.Errorf("finished: %v after %v; want %v after %v", finished, took, tc.finished, tc.took)
				}
				pass(2 * time.Hour)
				if !slices.Equal(d.lines, tc.want) {
					t.Errorf("it did %q, want %q", d.lines, tc.want)
				}
			})
		})
	}
}

// What was posted too late is there for whoever takes over.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(nil)
		d.Start()
		d.Stop(t.Context())
		if d.Post(func() { d.note("late") }) {
			t.Error("a post after the stop is said to run")
		}
		d.Drain()
		d.Drain()
		if !slices.Equal(d.lines, []string{"0s late"}) {
			t.Errorf("it did %q", d.lines)
		}
	})
}

// OnRest is called once for each time that everything has run.
func TestOnRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiary(func(*diary, int) { pass(time.Second) })
		var rests atomic.Int64
		d.OnRest(func() {
			if d.Busy() {
				t.Error("it is busy while it rests")
			}
			rests.Add(1)
		})
		d.Start()
		d.Wake()
		synctest.Wait()
		d.Wake() // one more step, and no rest in between
		pass(time.Minute)
		if rests.Load() != 1 || d.steps != 2 {
			t.Errorf("%d rests after %d steps, want 1 and 2", rests.Load(), d.steps)
		}
	})
}
