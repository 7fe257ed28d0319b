// Package supervise runs one command as if it had been started directly: it has the standard streams, the terminal
// and the inherited descriptors, gets the signals, and its exit status is passed on.
//
// The command is started once there is an environment for it, and can be restarted or signalled when that changes. It
// stays in this process's group, so that a shell and a terminal see one job. Only if this process leads the session,
// and so there is no shell, does the command get its own group. One caveat: while both are in one group in a
// terminal's foreground, a SIGINT, SIGQUIT or SIGWINCH is assumed to come from the terminal, which sends it to both.
package supervise

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/credagent/credagent/internal/process"
)

// Plan describes what to do with a running command.
type Plan struct {
	Restart      bool          // when its environment changed
	ReloadSignal os.Signal     // sent when there is something new to read; nil for none
	KillSignal   os.Signal     // asks it to end, for a restart
	RestartTime  time.Duration // after which it is killed then
	StopTime     time.Duration // after which it is killed when a SIGTERM was passed on; 0 for never
}

// Options configures how a command is run.
type Options struct {
	Plan
	Command []string // the program, looked up in PATH, and its arguments
	Environ []string // the environment that it inherits
	Without []string // the names of variables that it does not inherit
	Log     *slog.Logger

	ignored []syscall.Signal // at this process's own start
}

const (
	// settleTime is how long a command is left alone after its start; changes wait until then.
	settleTime = 2 * time.Second
	// askAgain is how often a command that does not handle its signal yet is checked.
	askAgain = 250 * time.Millisecond
	// deafTime is how long it takes until that is logged.
	deafTime = 10 * time.Second
)

// Offer is the environment that a command can have now.
type Offer struct {
	Environ    []string // variables that add to or replace inherited ones
	Generation string   // changes when there is something new to read elsewhere
}

// Child is a running command.
type Child interface {
	PID() int
	Signal(os.Signal) error // os.ErrProcessDone after the end
	Wait() (status int)
}

// Supervisor runs a command.
type Supervisor struct {
	log           *slog.Logger
	machine       machine
	signals       chan os.Signal
	start         func(given []string) (Child, error)
	reached       func(os.Signal) bool // the command also got a signal that this process got
	try           func(given []string) error
	handlesSignal func(pid int, s os.Signal) bool // the command handles a signal
	family        *family                         // nil if unknown

	child    Child // nil before the first start
	began    time.Time
	newest   Offer
	later    *time.Timer // when the newest offer is considered again
	deaf     bool        // it was logged that the command does not handle the signal
	refused  digest      // the last offer that the command could not be started with
	cleared  chan []int  // processes that still run after a command's end
	clearing bool        // leftover processes are being ended
	status   int         // exit status of the previous command
	ended    chan int
	deadline *time.Timer // when the command is killed
	limited  bool        // there is a deadline
}

// New prepares to run a command, and handles signals from then on. If the program does not exist, the error is a
// [*process.StartError].
func New(o Options) (*Supervisor, error) {
	path, err := process.Find(o.Command[0])
	if err != nil {
		return nil, err
	}
	t := openTerminal()
	o.ignored = ignoredAtStart()
	s := newSupervisor(o.Plan, o.Log, t.reaches, func(given []string) (Child, error) {
		c, err := command(path, o, given)
		if err != nil {
			return nil, err
		}
		return process.StartHeir(c, t.attributes())
	})
	s.try = func(given []string) error { return try(o, given) }
	s.handlesSignal = handlesSignal
	if o.Restart {
		s.family = newFamily(o.Plan)
	}
	signal.Notify(s.signals, slices.DeleteFunc(passed(), func(sig os.Signal) bool {
		number, _ := sig.(syscall.Signal)
		return slices.Contains(o.ignored, number)
	})...)
	return s, nil
}

func newSupervisor(plan Plan, log *slog.Logger, reached func(os.Signal) bool, start func([]string) (Child, error)) *Supervisor {
	s := &Supervisor{
		log: log, machine: machine{plan: plan}, start: start, reached: reached,
		signals: make(chan os.Signal, 16), ended: make(chan int, 1), cleared: make(chan []int, 1),
		deadline: time.NewTimer(0), later: time.NewTimer(0),
		try:           func([]string) error { return nil },
		handlesSignal: func(int, os.Signal) bool { return true },
	}
	s.deadline.Stop()
	s.later.Stop()
	return s
}

// Run starts the command with the first offer and returns its exit status when it has ended. A signal before the
// start is handled like in a program without a handler. If ctx ends before the start, its cause is returned; a
// running command is not ended by ctx.
func (s *Supervisor) Run(ctx context.Context, offers <-chan Offer) (status int, err error) {
	defer signal.Stop(s.signals)
	unstarted := ctx.Done()
	for {
		var v verdict
		select {
		case <-unstarted:
			return 0, context.Cause(ctx)
		case sig := <-s.signals:
			v = s.machine.received(sig, s.child != nil && s.reached(sig))
		case offer := <-offers:
			v = s.offered(offer)
		case <-s.later.C:
			v = s.offered(s.newest)
		case status := <-s.ended:
			v = s.left(status)
		case remaining := <-s.cleared:
			v = s.wasCleared(remaining)
		case <-s.deadline.C:
			s.log.Warn("command did not end in time, killing it")
			v = verdict{send: os.Kill}
		}
		if v.finish {
			return v.status, nil
		}
		if err := s.do(v); err != nil {
			return 0, err
		}
		if s.child != nil {
			unstarted = nil
		}
	}
}

// offered handles the newest offer. A command that has ended meanwhile is not restarted, unless it was being
// restarted.
func (s *Supervisor) offered(o Offer) verdict {
	s.newest = o
	select {
	case status := <-s.ended:
		if s.machine.phase == restarting {
			s.machine.offered(digestOf(o))
		} else {
			s.machine.endedBefore()
		}
		return s.left(status)
	default:
	}
	d := digestOf(o)
	if s.clearing {
		s.machine.offered(d)
		return verdict{}
	}
	if s.postponed(d) {
		return verdict{}
	}
	if s.machine.wouldRestart(d) && !s.canStart(d, o) {
		return verdict{}
	}
	v := s.machine.offered(d)
	switch {
	case s.machine.phase == restarting && v.send != nil:
		s.log.Info("restarting command: environment changed")
	case v.send != nil:
		s.log.Info("command signalled to reload", "signal", v.send)
	}
	return v
}

// postponed reports whether an offer has to wait, because the command was started a moment ago, or does not handle
// the signal yet, which would end it.
func (s *Supervisor) postponed(d digest) bool {
	restart, signal := s.machine.wouldRestart(d), s.machine.wouldSignal(d)
	if !restart && !signal {
		return false
	}
	age := time.Since(s.began)
	if age < settleTime {
		s.later.Reset(settleTime - age)
		return true
	}
	if restart || s.handlesSignal(s.child.PID(), s.machine.plan.ReloadSignal) {
		return false
	}
	if age >= deafTime && !s.deaf {
		s.deaf = true
		s.log.Warn("command does not handle the signal, which would end it; it is sent once it does", "signal", s.machine.plan.ReloadSignal)
	}
	s.later.Reset(askAgain)
	return true
}

// canStart reports whether a command could be started again, before the running one is ended.
func (s *Supervisor) canStart(d digest, o Offer) bool {
	if d == s.refused {
		return false
	}
	if err := s.try(o.Environ); err != nil {
		s.refused = d
		s.log.Error("command goes on with the environment it has, it could not be started again", "error", err)
		return false
	}
	return true
}

func (s *Supervisor) left(status int) verdict {
	s.deadline.Stop()
	s.limited = false
	s.log.Info("command ended", "exit_status", status)
	if s.machine.phase != restarting || s.family == nil {
		return s.machine.ended(status)
	}
	s.clearing, s.status = true, status
	go func() { s.cleared <- s.family.clear() }()
	return verdict{}
}

// wasCleared continues once the previous command's processes have ended.
func (s *Supervisor) wasCleared(remaining []int) verdict {
	s.clearing = false
	if len(remaining) > 0 {
		s.log.Warn("processes of the command are left running", "pids", numbers(remaining))
	}
	return s.machine.ended(s.status)
}

func (s *Supervisor) do(v verdict) error {
	if v.start {
		return s.begin()
	}
	if v.within > 0 && !s.limited {
		s.limited = true
		s.deadline.Reset(v.within)
	}
	if v.send == nil || s.clearing {
		return nil
	}
	if s.machine.phase == restarting && s.family != nil {
		s.family.update(s.child.PID())
	}
	err := s.child.Signal(v.send)
	switch {
	case errors.Is(err, os.ErrProcessDone):
		if v.send == s.machine.plan.KillSignal && s.machine.phase == restarting {
			s.machine.endedBefore()
		}
	case err != nil:
		s.log.Warn("command cannot be sent a signal", "signal", v.send, "error", err)
	default:
		s.log.Debug("command was sent a signal", "signal", v.send)
	}
	return nil
}

func (s *Supervisor) begin() error {
	child, err := s.start(s.newest.Environ)
	if err != nil {
		return err
	}
	s.log.Info("command started", "pid", child.PID())
	s.child, s.newest, s.began, s.deaf = child, Offer{}, time.Now(), false
	s.later.Stop()
	go func() { s.ended <- child.Wait() }()
	return nil
}
