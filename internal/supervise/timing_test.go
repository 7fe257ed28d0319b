package supervise

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// playWith runs a supervisor of fake commands that it first lets be changed.
func playWith(t *testing.T, s *stage, plan Plan, change func(*Supervisor), rest func(offers chan<- Offer)) (status int, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.began = time.Now()
		sup := newSupervisor(plan, slog.New(slog.DiscardHandler), func(os.Signal) bool { return false }, s.start)
		change(sup)
		offers := make(chan Offer)
		var resting sync.WaitGroup
		resting.Go(func() { rest(offers) })
		status, err = sup.Run(t.Context(), offers)
		resting.Wait()
	})
	return status, err
}

func TestACommandIsLeftAloneInItsFirstMoments(t *testing.T) {
	for name, tc := range map[string]struct {
		plan Plan
		want []string
	}{
		"a restart": {Plan{Restart: true, KillSignal: syscall.SIGTERM}, []string{"0s start [A]", "2s terminated", "2s start [C]"}},
		"a signal":  {Plan{ReloadSignal: syscall.SIGHUP}, []string{"0s start [A]", "2s hangup"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stage{obeys: map[os.Signal]int{syscall.SIGTERM: 143}}
			_, _ = playWith(t, s, tc.plan, func(*Supervisor) {}, func(offers chan<- Offer) {
				for _, content := range []string{"A", "B", "C"} {
					offers <- offer(content)
				}
				pass(time.Minute)
				s.exit(0)
			})
			s.want(t, tc.want...)
		})
	}
}

func TestASignalWaitsForItsHandler(t *testing.T) {
	for name, tc := range map[string]struct {
		after time.Duration
		want  []string
	}{
		"there at once":  {0, []string{"0s start [A]", "2s hangup"}},
		"there later":    {5 * time.Second, []string{"0s start [A]", "5s hangup"}},
		"there at last":  {30 * time.Second, []string{"0s start [A]", "30s hangup"}},
		"never there":    {time.Hour, []string{"0s start [A]"}},
		"between looks":  {2100 * time.Millisecond, []string{"0s start [A]", "2.25s hangup"}},
		"before the end": {59 * time.Second, []string{"0s start [A]", "59s hangup"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stage{}
			_, _ = playWith(t, s, Plan{ReloadSignal: syscall.SIGHUP}, func(sup *Supervisor) {
				sup.handlesSignal = func(int, os.Signal) bool { return time.Since(s.began) >= tc.after }
			}, func(offers chan<- Offer) {
				offers <- offer("A")
				offers <- offer("B")
				pass(time.Minute)
				s.exit(0)
			})
			s.want(t, tc.want...)
		})
	}
}

func TestACommandIsNotEndedForOneThatCannotStart(t *testing.T) {
	s := &stage{obeys: map[os.Signal]int{syscall.SIGTERM: 143}}
	plan := Plan{Restart: true, KillSignal: syscall.SIGTERM}
	status, err := playWith(t, s, plan, func(sup *Supervisor) {
		sup.try = func(given []string) error {
			if given[0] == "too large" {
				return errors.New("argument list too long")
			}
			return nil
		}
	}, func(offers chan<- Offer) {
		for _, content := range []string{"A", "too large", "too large", "B", "too large"} {
			offers <- offer(content)
			pass(time.Minute)
		}
		s.exit(3)
	})
	if status != 3 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	s.want(t, "0s start [A]", "3m0s terminated", "3m0s start [B]")
}
