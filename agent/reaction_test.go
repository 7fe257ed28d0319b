package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/delivery"
	"github.com/credagent/credagent/agent/provider"
)

// actor is the action of every sink of a fixture: it remembers the sinks and what they held.
type actor struct {
	run func(ctx context.Context, n int) error // n counts from 1

	mu   sync.Mutex
	seen []string // guarded by mu
}

// on makes the actor act on a fixture's sinks.
func (a *actor) on(f *fixture, s *server) *fixture {
	f.act = func(path string) []delivery.Action { return []delivery.Action{acting{a, f, path}} }
	return remade(f, s, f.agent.parts.config())
}

func (a *actor) saw() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.seen)
}

type acting struct {
	*actor
	fixture *fixture
	path    string
}

func (a acting) String() string { return "act" }

func (a acting) Run(ctx context.Context) error {
	a.mu.Lock()
	a.seen = append(a.seen, a.path+" "+a.fixture.sinks[a.path[1:]].held(a.path[1:]).AccessToken.Reveal())
	n := len(a.seen)
	a.mu.Unlock()
	return a.run(ctx, n)
}

func well(context.Context, int) error { return nil }

// until is an action that takes its time, unless it is ended.
func until(ctx context.Context, long time.Duration) error {
	select {
	case <-time.After(long):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func TestActsOnEveryNewContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		act := &actor{run: well}
		f := act.on(newFixture(s.exchange, "a"), s)
		stop := f.run(t.Context())
		pass(time.Minute)
		f.agent.deliver("a") // the sink is looked at, and right
		pass(45 * time.Minute)
		stop()
		if got := act.saw(); !slices.Equal(got, []string{"/a token-1", "/a token-2"}) {
			t.Errorf("it acted on %q", got)
		}
		if on := f.agent.Status().Sinks[0].OnChange; on.LastOutcome != "success" || on.LastAction != "act" || on.LastRun == nil || on.Running || on.LastError != "" {
			t.Errorf("status %+v", on)
		}
	})
}

// What hangs or fails after one sink's change holds up neither that sink nor another, nor the next
// change's action.
func TestActionsAreInNobodysWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		act := &actor{run: func(ctx context.Context, n int) error {
			if n == 1 {
				return errors.New("no such program")
			}
			return until(ctx, 50*time.Minute)
		}}
		f := act.on(newFixture(s.exchange, "a"), s)
		stop := f.run(t.Context())
		defer stop()
		pass(time.Minute)
		on := f.agent.Status().Sinks[0].OnChange
		if !f.agent.Status().Ready || on.LastOutcome != "failed" || on.LastError != "no such program" {
			t.Errorf("ready: %v, status %+v", f.agent.Status().Ready, on)
		}
		pass(70 * time.Minute) // two more tokens, the second while the action hangs
		status := f.agent.Status()
		if held := f.sinks["a"].held("a").AccessToken.Reveal(); held != "token-3" || !status.Ready || !status.Sinks[0].OnChange.Running {
			t.Errorf("the sink holds %s, ready: %v, running: %v", held, status.Ready, status.Sinks[0].OnChange.Running)
		}
		pass(30 * time.Minute)
		if got := act.saw(); !slices.Equal(got, []string{"/a token-1", "/a token-2", "/a token-3"}) {
			t.Errorf("it acted on %q", got)
		}
	})
}

func TestNothingIsDoneAfterAFailedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		act := &actor{run: well}
		f := newFixture(s.exchange, "a", "b")
		f.sinks["a"].fail = func() error { return errNoSpace }
		stop := act.on(f, s).run(t.Context())
		defer stop()
		pass(10 * time.Minute)
		if got := act.saw(); !slices.Equal(got, []string{"/b token-1"}) && !slices.Equal(got, []string{"/b token-2"}) {
			t.Errorf("it acted on %q", got)
		}
	})
}

func TestStopEndsActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		act := &actor{run: func(ctx context.Context, n int) error {
			if n == 1 {
				return until(ctx, time.Hour)
			}
			return until(context.Background(), 10*time.Second) // it does not hear
		}}
		f := act.on(newFixture(s.exchange, "a", "b", "c"), s)
		stop := f.run(t.Context())
		pass(time.Minute)
		began := time.Now()
		stop()
		if took := time.Since(began); took > stopTimeout {
			t.Errorf("stopping took %v", took)
		}
		pass(time.Minute)
	})
}

// A reload that changes a sink ends what is running for it. The change is then acted upon anew.
func TestReloadActsOnWhatWasCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		act := &actor{run: func(ctx context.Context, n int) error {
			if n == 1 {
				return until(ctx, time.Hour)
			}
			return nil
		}}
		f := act.on(newFixture(s.exchange, "a"), s)
		stop := f.run(t.Context())
		defer stop()
		pass(time.Minute)
		for range 2 { // nothing is running at the second
			cfg := f.changed(func(cfg *config.Config) { cfg.Sinks[0].Mode++ })
			if err := f.agent.Reload(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			pass(time.Minute)
		}
		if got := act.saw(); !slices.Equal(got, []string{"/a token-1", "/a token-1"}) {
			t.Errorf("it acted on %q", got)
		}
	})
}

func TestOnceWaitsForActions(t *testing.T) {
	for name, tc := range map[string]struct {
		timeout, want time.Duration
		refused       bool
	}{
		"to their end":          {time.Hour, 10 * time.Minute, false},
		"no longer than it may": {time.Minute, time.Minute, false},
		"after a refusal too":   {time.Hour, 10 * time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{answer: func(n int, a arrival) (provider.Reply, error) {
					if a.token == "b" && tc.refused {
						return refusal(400, "invalid_scope", ""), nil
					}
					return good(n, a)
				}}
				act := &actor{run: func(ctx context.Context, _ int) error { return until(ctx, 10*time.Minute) }}
				f := act.on(newFixture(s.exchange, "a", "b"), s)
				ctx, cancel := context.WithTimeout(t.Context(), tc.timeout)
				defer cancel()
				began := time.Now()
				err := f.agent.Once(ctx)
				if took := time.Since(began); (err != nil) != tc.refused || took < tc.want || took > tc.want+10*time.Second {
					t.Errorf("%v after %v", err, took)
				}
			})
		})
	}
}
