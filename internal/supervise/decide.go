package supervise

import (
	"crypto/sha256"
	"os"
	"strings"
	"syscall"
	"time"
)

// phase is a phase of a command's life.
type phase int

const (
	waiting    phase = iota // there is no offer to start it with yet
	running                 // it was started, and is left alone
	restarting              // it was asked to end, and will be started again
	leaving                 // it is ending, and will not be started again
)

// machine decides what to do with a command. It does nothing itself.
type machine struct {
	plan  Plan
	phase phase
	given digest // what the command was started with, or last signalled about
	next  digest // what it would be started with now
}

// verdict is what to do now; the zero value means nothing.
type verdict struct {
	start  bool
	send   os.Signal     // nil for none
	within time.Duration // kill the command if it has not ended by then; 0 for no limit
	finish bool          // with status
	status int
}

// digest distinguishes two offers without keeping their content.
type digest struct {
	environ    [sha256.Size]byte
	generation string
}

func digestOf(o Offer) digest {
	return digest{sha256.Sum256([]byte(strings.Join(o.Environ, "\x00"))), o.Generation}
}

// offered decides what to do when there is something new for the command.
func (m *machine) offered(d digest) verdict {
	m.next = d
	switch {
	case m.phase == waiting:
		return m.begin()
	case m.phase != running:
		return verdict{}
	case m.wouldRestart(d):
		m.phase = restarting
		return verdict{send: m.plan.KillSignal, within: m.plan.RestartTime}
	case m.plan.ReloadSignal != nil && d != m.given:
		m.given = d
		return verdict{send: m.plan.ReloadSignal}
	}
	return verdict{}
}

// wouldRestart reports whether an offer would restart the command.
func (m *machine) wouldRestart(d digest) bool {
	return m.phase == running && m.plan.Restart && d.environ != m.given.environ
}

// wouldSignal reports whether an offer would signal the command.
func (m *machine) wouldSignal(d digest) bool {
	return m.phase == running && m.plan.ReloadSignal != nil && d != m.given && !m.wouldRestart(d)
}

func (m *machine) begin() verdict {
	m.phase, m.given = running, m.next
	return verdict{start: true}
}

// received decides what to do when this process got a signal; reached means that the command got it too.
func (m *machine) received(s os.Signal, reached bool) verdict {
	if m.phase == waiting {
		return verdict{finish: ends(s) || s == syscall.SIGHUP, status: 128 + number(s)}
	}
	var v verdict
	if !reached {
		v.send = s
	}
	if ends(s) {
		m.phase = leaving
	}
	if s == syscall.SIGTERM {
		v.within = m.plan.StopTime
	}
	return v
}

// ended decides what to do when the command has ended.
func (m *machine) ended(status int) verdict {
	if m.phase == restarting {
		return m.begin()
	}
	return verdict{finish: true, status: status}
}

// endedBefore notes that the command had ended before it could be asked to.
func (m *machine) endedBefore() { m.phase = leaving }

// ends reports whether a signal asks a program to end.
func ends(s os.Signal) bool {
	return s == syscall.SIGTERM || s == syscall.SIGINT || s == syscall.SIGQUIT
}

func number(s os.Signal) int {
	n, _ := s.(syscall.Signal)
	return int(n)
}
