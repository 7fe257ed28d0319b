// Package supervise runs one command as if nothing stood before it: it has the standard streams, the
// terminal and the inherited descriptors, gets the signals, and its exit status is passed on.
//
// The command is started when there is something to start it with, and can be restarted, or told by
// a signal, when that changes. It stays in this process's group, so that a shell and a terminal see
// one job; only where this process leads the session, and so no shell is there to see it, does the
// command get a group of its own. One caveat: while both are one group in a terminal's foreground,
// a SIGINT, SIGQUIT or SIGWINCH is taken to come from the terminal, which sends it to both.
package supervise

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/credagent/credagent/internal/process"
)

// Plan says what is done with a running command.
type Plan struct {
	Restart     bool          // when its environment changed
	Tell        os.Signal     // sent when there is something new to read; nil for none
	KillSignal  os.Signal     // tells it to end, for a restart
	RestartTime time.Duration // after which it is killed then
	StopTime    time.Duration // after which it is killed when a SIGTERM was passed on; 0 for never
}

// Options are what a command is run with.
type Options struct {
	Plan
	Command []string // the program, looked up in PATH, and its arguments
	Environ []string // the environment that it inherits
	Without []string // the names of variables that it does not
	Log     *slog.Logger
}

// Offer is what a command can have now.
type Offer struct {
	Environ    []string // variables that it gets beside those it inherits, in their place
	Generation string   // another one when there is something new to read elsewhere
}

// Child is a running command.
type Child interface {
	PID() int
	Signal(os.Signal) error // os.ErrProcessDone after the end
	Wait() (status int)
}

// Supervisor runs a command.
type Supervisor struct {
	log     *slog.Logger
	machine machine
	signals chan os.Signal
	start   func(given []string) (Child, error)
	reached func(os.Signal) bool // the command got a signal as well as this process

	child    Child // nil before the first start
	newest   Offer
	ended    chan int
	deadline *time.Timer // when the command is killed
	limited  bool        // there is a deadline
}

// New prepares to run a command, and takes the signals that come from then on. A program that is not
// there is a [*process.StartError].
func New(o Options) (*Supervisor, error) {
	path, err := process.Find(o.Command[0])
	if err != nil {
		return nil, err
	}
	t := openTerminal()
	s := newSupervisor(o.Plan, o.Log, t.reaches, func(given []string) (Child, error) {
		c, err := command(path, o, given)
		if err != nil {
			return nil, err
		}
		return process.StartHeir(c, t.attributes())
	})
	signal.Notify(s.signals, slices.DeleteFunc(passed(), signal.Ignored)...)
	return s, nil
}

func newSupervisor(plan Plan, log *slog.Logger, reached func(os.Signal) bool, start func([]string) (Child, error)) *Supervisor {
	s := &Supervisor{
		log: log, machine: machine{plan: plan}, start: start, reached: reached,
		signals: make(chan os.Signal, 16), ended: make(chan int, 1), deadline: time.NewTimer(0),
	}
	s.deadline.Stop()
	return s
}

// Run starts the command with the first offer and returns its exit status when it has ended. A signal
// that comes before is answered as a program without a handler does. When ctx ends before, its cause
// is returned; a command that runs is not ended by it.
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
		case status := <-s.ended:
			v = s.left(status)
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

// offered takes the newest offer. A command that has ended by itself meanwhile is not restarted.
func (s *Supervisor) offered(o Offer) verdict {
	s.newest = o
	select {
	case status := <-s.ended:
		s.machine.endedBefore()
		return s.left(status)
	default:
	}
	v := s.machine.offered(digestOf(o))
	switch {
	case s.machine.phase == restarting && v.send != nil:
		s.log.Info("command is restarted, its environment changed")
	case v.send != nil:
		s.log.Info("command is told of what is new", "signal", v.send)
	}
	return v
}

func (s *Supervisor) left(status int) verdict {
	s.deadline.Stop()
	s.limited = false
	s.log.Info("command ended", "exit_status", status)
	return s.machine.ended(status)
}

func (s *Supervisor) do(v verdict) error {
	if v.start {
		return s.begin()
	}
	if v.within > 0 && !s.limited {
		s.limited = true
		s.deadline.Reset(v.within)
	}
	if v.send == nil {
		return nil
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
	s.child, s.newest = child, Offer{}
	go func() { s.ended <- child.Wait() }()
	return nil
}
