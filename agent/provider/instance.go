package provider

import (
	"context"
	"sync"
	"time"
)

// instance is one process, from the decision to start it to its end. The pool's lock guards the mutable fields.
type instance struct {
	key      key
	place    string          // the server of the first call
	starting context.Context // ends when no call waits for the start
	cancel   context.CancelFunc
	begun    time.Time
	ready    chan struct{} // closed when it runs or could not be started, after running, err and pid are set
	running  *running
	err      error
	pid      string
	once     sync.Once     // its end
	turns    chan struct{} // holds a value for each call that has its turn

	users    map[*Process]struct{} // clients that have joined it and are not closed
	joined   int                   // calls, including those that wait for it
	underWay map[*Process]int      // calls that were sent
	incident *incident             // its failure; nil for none
	bound    bool                  // a call that sends a request has joined it
	closed   bool                  // it accepts no new calls
	killed   bool                  // by the agent
	replaced bool                  // another one starts after its end
	used     time.Time             // when the last call left
	timer    *time.Timer           // ends it when it is unused
}

func newInstance(k key) *instance {
	in := &instance{
		key: k, begun: time.Now(), ready: make(chan struct{}), turns: make(chan struct{}, maxCalls),
		users: map[*Process]struct{}{}, underWay: map[*Process]int{},
	}
	in.starting, in.cancel = context.WithCancel(context.Background())
	return in
}

func (in *instance) join(p *Process) {
	in.joined++
	in.users[p] = struct{}{}
	if in.timer != nil {
		in.timer.Stop()
	}
}

func (in *instance) isReady() bool {
	select {
	case <-in.ready:
		return true
	default:
		return false
	}
}

// exited reports whether the process has ended by itself.
func (in *instance) exited() bool {
	return in.isReady() && in.err == nil && in.running.plugin.Exited()
}
