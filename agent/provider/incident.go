package provider

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// incident is what went wrong in a process, with the clients that may have caused it. Each has a process
// of its own from then on. When one of them fails there as well, it was that one, and the others share a
// process again; else all do after a day.
type incident struct{ suspects map[*Process]struct{} }

// begin counts a call as under way. It reports whether the process takes it.
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

// failed learns from a call without a proper reply. Where the connection broke, the process is done for,
// and any call that was under way may be the reason. A call that hangs, or whose reply makes no sense, is
// the reason itself: the process takes no new calls, and the others' are seen through.
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

// full has a process finish what is under way, because it cannot be told of another destination.
func (l *pool) full(in *instance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close(in)
}

// suspect gives a client a process of its own.
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

// found clears the others of whatever a client that failed alone was suspected of.
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
