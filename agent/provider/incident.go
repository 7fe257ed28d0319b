package provider

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// incident is a failure of a process, with the clients that may have caused it. From then on each has its own
// process. If one of them fails there too, it was the cause, and the others share a process again; otherwise all do
// after a day.
type incident struct{ suspects map[*Process]struct{} }

// begin counts a call as under way. It reports whether the process accepts it.
func (l *pool) begin(in *instance, p *Process, w want) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in.closed {
		return false
	}
	in.underWay[p]++
	in.bound = in.bound || w.to != nil
	return true
}

// done ends what begin began.
func (l *pool) done(in *instance, p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in.underWay[p]--; in.underWay[p] == 0 {
		delete(in.underWay, p)
	}
}

// failed handles a call without a valid reply. If the connection broke, the process is lost, and any call under way
// may be the cause. A call that hangs, or has an invalid reply, is the cause itself: the process accepts no new
// calls, and completes the others.
func (l *pool) failed(in *instance, p *Process, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in.killed {
		return
	}
	if isBroken(err) {
		l.broke(in)
		return
	}
	l.suspect(in, p)
	l.close(in)
	l.failing(in)
}

// broke ends a process that is broken.
func (l *pool) broke(in *instance) {
	if in.killed {
		return
	}
	for p := range in.underWay {
		l.suspect(in, p)
	}
	l.failing(in)
	l.kill(in)
	if in.joined == 0 {
		go l.end(in)
	}
}

// full makes a process only finish its calls, because it cannot be bound to another destination.
func (l *pool) full(in *instance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close(in)
}

// suspect gives a client its own process.
func (l *pool) suspect(in *instance, p *Process) {
	p.until = time.Now().Add(suspicion)
	if in.key.own == p {
		l.found(p)
		return
	}
	if in.incident == nil {
		in.incident = &incident{suspects: map[*Process]struct{}{}}
	}
	in.incident.suspects[p] = struct{}{}
	p.suspect = in.incident
}

// found clears the other suspects of an incident after a client failed alone.
func (l *pool) found(p *Process) {
	if p.suspect != nil {
		for other := range p.suspect.suspects {
			if other != p && other.suspect == p.suspect {
				other.suspect = nil
			}
		}
	}
	p.suspect = &incident{suspects: map[*Process]struct{}{p: {}}}
}

// isBroken reports whether an error is the connection's.
func isBroken(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.Canceled
}
