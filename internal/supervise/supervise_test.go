package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/internal/process"
)

// stage is where fake commands run, and what happened there.
type stage struct {
	obeys map[os.Signal]int // what a command exits with after a signal; it ignores others
	delay time.Duration     // how long it takes to end after one

	mu     sync.Mutex
	began  time.Time
	events []string // guarded by mu, as are the others
	child  *fakeChild
	gone   bool
}

func (s *stage) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, fmt.Sprintf("%v ", time.Since(s.began))+fmt.Sprintf(format, args...))
}

func (s *stage) start(environ []string) (Child, error) {
	s.note("start %v", environ)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.child = &fakeChild{stage: s, exit: make(chan int, 1)}
	return s.child, nil
}

type fakeChild struct {
	stage *stage
	exit  chan int
}

// exit ends the command that runs.
func (s *stage) exit(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.child.exit <- status
}

func (s *stage) isGone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// vanish makes the command end, which is noticed later.
func (s *stage) vanish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
}

func (c *fakeChild) PID() int { return 7 }

func (c *fakeChild) Signal(s os.Signal) error {
	if c.stage.isGone() {
		return os.ErrProcessDone
	}
	c.stage.note("%v", s)
	status, obeys := c.stage.obeys[s]
	if s == os.Kill {
		c.exit <- 137
	} else if obeys {
		time.AfterFunc(c.stage.delay, func() { c.exit <- status })
	}
	return nil
}

func (c *fakeChild) Wait() int { return <-c.exit }

// show runs a supervisor of fake commands in a bubble and lets the rest of the play happen there.
func show(t *testing.T, s *stage, plan Plan, rest func(offers chan<- Offer, signals chan<- os.Signal)) (status int, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.began = time.Now()
		sup := newSupervisor(plan, slog.New(slog.DiscardHandler), func(sig os.Signal) bool { return sig == syscall.SIGQUIT }, s.start)
		offers, signals := make(chan Offer), make(chan os.Signal)
		sup.signals = signals
		var resting sync.WaitGroup
		resting.Go(func() { rest(offers, signals) })
		status, err = sup.Run(t.Context(), offers)
		resting.Wait()
	})
	return status, err
}

func (s *stage) want(t *testing.T, events ...string) {
	t.Helper()
	if !slices.Equal(s.events, events) {
		t.Errorf("it happened:\n%q\nwant\n%q", s.events, events)
	}
}

func offer(content string) Offer { return Offer{Environ: []string{content}, Generation: content} }

func pass(d time.Duration) { <-time.After(d) }

func TestRestartOfACommandThatEndsInTime(t *testing.T) {
	s := &stage{obeys: map[os.Signal]int{syscall.SIGTERM: 143}, delay: 3 * time.Second}
	plan := Plan{Restart: true, KillSignal: syscall.SIGTERM, RestartTime: 10 * time.Second}
	status, err := show(t, s, plan, func(offers chan<- Offer, _ chan<- os.Signal) {
		offers <- offer("A")
		pass(time.Minute)
		offers <- offer("B")
		pass(time.Second)
		offers <- offer("C")
		pass(time.Minute) // no kill comes late
		s.exit(5)
	})
	if status != 5 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	s.want(t, "0s start [A]", "1m0s terminated", "1m3s start [C]")
}

func TestRestartOfACommandThatDoesNotEnd(t *testing.T) {
	s := &stage{}
	plan := Plan{Restart: true, KillSignal: syscall.SIGTERM, RestartTime: 10 * time.Second}
	_, _ = show(t, s, plan, func(offers chan<- Offer, _ chan<- os.Signal) {
		offers <- offer("A")
		pass(time.Minute)
		offers <- offer("B")
		pass(time.Minute)
		offers <- offer("C")
		pass(time.Minute)
		s.exit(0)
	})
	s.want(t, "0s start [A]", "1m0s terminated", "1m10s killed", "1m10s start [B]", "2m0s terminated", "2m10s killed", "2m10s start [C]")
}

func TestStopOfACommandThatDoesNotEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		limit time.Duration
		want  []string
	}{
		"with a limit":    {2 * time.Second, []string{"0s start [A]", "1s terminated", "2s terminated", "3s killed"}},
		"without a limit": {0, []string{"0s start [A]", "1s terminated", "2s terminated", "1h0m2s user defined signal 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stage{obeys: map[os.Signal]int{syscall.SIGUSR1: 0}}
			_, _ = show(t, s, Plan{StopTime: tc.limit}, func(offers chan<- Offer, signals chan<- os.Signal) {
				offers <- offer("A")
				for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGTERM} { // the second gives no more time
					pass(time.Second)
					signals <- sig
				}
				pass(time.Hour)
				select {
				case signals <- syscall.SIGUSR1:
				case <-time.After(time.Second):
				}
			})
			s.want(t, tc.want...)
		})
	}
}

func TestSignalsThatTheTerminalSent(t *testing.T) {
	s := &stage{obeys: map[os.Signal]int{syscall.SIGINT: 130}}
	status, _ := show(t, s, Plan{}, func(offers chan<- Offer, signals chan<- os.Signal) {
		offers <- offer("A")
		signals <- syscall.SIGQUIT
		signals <- syscall.SIGINT
	})
	if s.want(t, "0s start [A]", "0s interrupt"); status != 130 {
		t.Errorf("status %d", status)
	}
}

// A command that ended by itself just before it was to be restarted stays ended.
func TestEndedJustBeforeARestart(t *testing.T) {
	s := &stage{}
	plan := Plan{Restart: true, KillSignal: syscall.SIGTERM, RestartTime: time.Second}
	status, err := show(t, s, plan, func(offers chan<- Offer, _ chan<- os.Signal) {
		offers <- offer("A")
		pass(time.Second)
		s.vanish()
		offers <- offer("B")
		s.exit(5)
	})
	if s.want(t, "0s start [A]"); status != 5 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
}

// What an offer does that is seen before the end of a command.
func TestOfferJustAfterTheEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		phase phase
		want  verdict
	}{
		"it ended by itself":               {running, verdict{finish: true, status: 143}},
		"it was asked to end, for restart": {restarting, verdict{start: true}},
		"it was asked to end, for good":    {leaving, verdict{finish: true, status: 143}},
	} {
		t.Run(name, func(t *testing.T) {
			sup := newSupervisor(Plan{Restart: true, KillSignal: syscall.SIGTERM}, slog.New(slog.DiscardHandler), nil, nil)
			sup.machine.phase = tc.phase
			sup.ended <- 143
			if got := sup.offered(offer("B")); got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
			if tc.want.start && sup.machine.given != digestOf(offer("B")) {
				t.Error("it is not started with what was offered")
			}
		})
	}
}

func TestNoSecondStart(t *testing.T) {
	failure := &process.StartError{Program: "app", Err: os.ErrNotExist}
	s := &stage{obeys: map[os.Signal]int{syscall.SIGTERM: 0}}
	first := true
	synctest.Test(t, func(t *testing.T) {
		s.began = time.Now()
		plan := Plan{Restart: true, KillSignal: syscall.SIGTERM}
		sup := newSupervisor(plan, slog.New(slog.DiscardHandler), nil, func(environ []string) (Child, error) {
			if !first {
				return nil, failure
			}
			first = false
			return s.start(environ)
		})
		offers := make(chan Offer, 2)
		offers <- offer("A")
		offers <- offer("B")
		if _, err := sup.Run(t.Context(), offers); !errors.Is(err, failure) {
			t.Errorf("error %v", err)
		}
	})
}

func TestContextEndsOnlyTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{began: time.Now()}
		refused := errors.New("refused")
		ctx, cancel := context.WithCancelCause(t.Context())
		sup := newSupervisor(Plan{}, slog.New(slog.DiscardHandler), nil, s.start)
		time.AfterFunc(time.Second, func() { cancel(refused) })
		if _, err := sup.Run(ctx, nil); !errors.Is(err, refused) {
			t.Errorf("error %v", err)
		}

		ctx, cancel = context.WithCancelCause(t.Context())
		offers := make(chan Offer, 1)
		offers <- offer("A")
		time.AfterFunc(time.Second, func() { cancel(refused) })
		time.AfterFunc(time.Minute, func() { s.exit(3) })
		if status, err := sup.Run(ctx, offers); status != 3 || err != nil {
			t.Errorf("status %d, %v", status, err)
		}
	})
}
