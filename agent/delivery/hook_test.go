package delivery

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fake is an action that takes its time.
type fake struct {
	name string
	run  func(ctx context.Context) error
}

func (f fake) String() string                { return f.name }
func (f fake) Run(ctx context.Context) error { return f.run(ctx) }

// diary remembers what a hook told.
type diary struct {
	mu    sync.Mutex
	lines []string // guarded by mu, as is rests
	rests int
}

func (d *diary) told(r result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	line := r.action + " after " + r.took.String()
	if r.err != nil {
		line += ": " + r.err.Error()
	}
	d.lines = append(d.lines, line)
}

func (d *diary) want(t *testing.T, rests int, lines ...string) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, lines) || d.rests != rests {
		t.Errorf("it told %q and rested %d times; want %q, %d", d.lines, d.rests, lines, rests)
	}
}

func newDiary(actions ...Action) (*diary, *hook) {
	d := &diary{}
	return d, newHook(actions, d.told, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.rests++
	})
}

// lasting is an action that takes so long and then ends so, unless it is ended before.
func lasting(name string, long time.Duration, err error) Action {
	return fake{name, func(ctx context.Context) error {
		select {
		case <-time.After(long):
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}}
}

func pass(d time.Duration) { <-time.After(d) }

func TestActionsRunInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, h := newDiary(lasting("one", time.Second, errors.New("no")), lasting("two", 2*time.Second, nil))
		h.changed()
		if !h.busy() {
			t.Error("it is not busy")
		}
		d.want(t, 0)
		pass(3 * time.Second)
		d.want(t, 1, "one after 1s: no", "two after 2s")
		if h.busy() || h.stop(t.Context()) {
			t.Error("it is busy, or missed something")
		}
	})
}

// However often the content changes while the actions run, one more run follows, and never two at once.
func TestChangesCoalesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, runs int
		d, h := newDiary(fake{"act", func(context.Context) error {
			runs++
			if running++; running > 1 {
				t.Error("two at once")
			}
			pass(time.Second)
			running--
			return nil
		}})
		h.changed()
		for range 9 {
			pass(100 * time.Millisecond)
			h.changed()
		}
		pass(1050 * time.Millisecond) // the second run has begun at 1s
		d.want(t, 0, "act after 1s")
		pass(time.Second)
		d.want(t, 1, "act after 1s", "act after 1s")
		h.changed()
		pass(time.Minute)
		if d.want(t, 2, "act after 1s", "act after 1s", "act after 1s"); runs != 3 {
			t.Errorf("%d runs", runs)
		}
	})
}

func TestStop(t *testing.T) {
	long := func() Action { return lasting("long", time.Hour, nil) }
	for name, tc := range map[string]struct {
		actions []Action
		change  func(h *hook)
		missed  bool
		told    []string
	}{
		"idle":              {[]Action{long()}, func(*hook) {}, false, nil},
		"running":           {[]Action{long()}, func(h *hook) { h.changed() }, true, []string{"long after 1s: context canceled"}},
		"more to come":      {[]Action{long(), long()}, func(h *hook) { h.changed() }, true, []string{"long after 1s: context canceled"}},
		"changed meanwhile": {[]Action{long()}, func(h *hook) { h.changed(); h.changed() }, true, []string{"long after 1s: context canceled"}},
		"done": {
			[]Action{lasting("short", time.Millisecond, nil)}, func(h *hook) { h.changed() }, false, []string{"short after 1ms"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, h := newDiary(tc.actions...)
				tc.change(h)
				pass(time.Second)
				if missed := h.stop(t.Context()); missed != tc.missed || h.busy() {
					t.Errorf("missed: %v, busy: %v", missed, h.busy())
				}
				d.want(t, min(len(tc.told), 1), tc.told...)
				h.changed()
				if !h.stop(t.Context()) {
					t.Error("a change after the stop is not missed")
				}
				d.want(t, min(len(tc.told), 1), tc.told...)
			})
		})
	}
}

// An action that cannot be ended does not hold up the stop.
func TestStopDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := newDiary(fake{"deaf", func(context.Context) error {
			pass(time.Hour)
			return nil
		}})
		h.changed()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if missed, took := h.stop(ctx), time.Since(began); !missed || took != 3*time.Second {
			t.Errorf("missed: %v after %v", missed, took)
		}
		pass(time.Hour)
	})
}
