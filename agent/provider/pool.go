package provider

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/credagent/credagent/internal/handshake"
)

const (
	// maxCalls limits the calls under way in one process; the others wait for their turn.
	maxCalls = 128
	// startsAtOnce limits how many processes are being started; each counts for at most startTurn, so one that does
	// not become ready delays others no longer.
	startsAtOnce = 4
	startTurn    = 250 * time.Millisecond
	// suspicion is how long a client has its own process after a fault.
	suspicion = 24 * time.Hour
)

// key identifies the calls that a process accepts.
type key struct {
	provider  string
	variables string   // process-wide settings, see settings
	server    string   // where its requests go, or place; "" until a credential is loaded in it
	own       *Process // the only client that uses it; nil for all
}

// want is what a call requires of its process.
type want struct {
	to    *handshake.Destination // nil for a call that sends nothing
	loads bool                   // the call has the process load the credential
}

// pool owns the processes: one for each provider and authorization server, and one for each suspected client.
//
// Beyond the limit, each server may still have one process that its clients share and one for its suspected clients,
// so that servers never wait for each other.
type pool struct {
	max      int
	idle     time.Duration
	gap      time.Duration // between the starts of a process that keeps failing
	start    func(ctx context.Context, k key, spec Spec) (*running, error)
	starting chan struct{}

	mu      sync.Mutex
	handles int                    // guarded by mu, as are all that follow
	takes   map[key]*instance      // those that accept new calls
	all     map[*instance]struct{} // including those that only finish their calls, or are ending
	known   map[string]string      // issuer → the origins of its token endpoint
	notYet  map[key]time.Time      // when the next one may be started after a failure
	freed   chan struct{}          // closed and replaced when there may be room for another process
}

func newPool(o Options) *pool {
	return &pool{
		max: o.MaxProcesses, idle: o.IdleTimeout, gap: o.limits.gap,
		starting: make(chan struct{}, startsAtOnce),
		takes:    map[key]*instance{}, all: map[*instance]struct{}{}, known: map[string]string{},
		notYet: map[key]time.Time{}, freed: make(chan struct{}),
	}
}

// place returns a substitute for the server of a client whose token endpoint is unknown.
func (l *pool) place(spec Spec) string {
	if origin, err := handshake.Origin(spec.TokenEndpoint); err == nil {
		return origin
	}
	if spec.Issuer != "" {
		return "issuer " + spec.Issuer
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handles++
	return "client " + strconv.Itoa(l.handles)
}

// join finds the process for a call, or starts one. Every join must be followed by a leave.
func (l *pool) join(ctx context.Context, p *Process, w want) (*instance, error) {
	for ctx.Err() == nil {
		l.mu.Lock()
		in, room := l.find(p, w)
		if in != nil {
			in.join(p)
		}
		l.mu.Unlock()
		if in != nil {
			return in, nil
		}
		select {
		case <-room:
		case <-ctx.Done():
		}
	}
	return nil, ctx.Err()
}

// find returns the process for a call, or, if there is no room for one, a channel that reports room. l.mu is held, as
// in all methods below except leave, end and run.
func (l *pool) find(p *Process, w want) (*instance, <-chan struct{}) {
	k := l.keyOf(p, w)
	in := l.running(k, p, w)
	if in != nil && in.exited() {
		l.broke(in)
		in = nil
	}
	if in != nil {
		return in, nil
	}
	server := k.server
	if !w.loads {
		k.server = ""
	}
	victims, ok := l.makeRoom(k, server)
	if !ok {
		return nil, l.freed
	}
	in = newInstance(k)
	in.place = server
	l.takes[k] = in
	l.all[in] = struct{}{}
	go l.run(in, p.spec, victims)
	return in, nil
}

// keyOf returns the key of the process for a call.
func (l *pool) keyOf(p *Process, w want) key {
	k := key{provider: p.spec.Provider, variables: p.variables}
	if p.suspect != nil && time.Now().After(p.until) {
		p.suspect = nil
	}
	if p.suspect != nil {
		k.own = p
	}
	if w.to != nil {
		p.server = strings.Join(w.to.Origins, " ")
		if strings.HasPrefix(p.place, "issuer ") {
			l.known[p.place] = p.server
		}
	}
	if k.server = p.server; k.server == "" {
		k.server = l.known[p.place]
	}
	if k.server == "" {
		k.server = p.place
	}
	return k
}

// running returns the process that accepts calls of the key. One that has loaded nothing yet, or that is unbound and
// has the same issuer, becomes the key's. A call that loads nothing can use one that has loaded nothing.
func (l *pool) running(k key, p *Process, w want) *instance {
	if in := l.takes[k]; in != nil {
		return in
	}
	fresh, early := k, k
	fresh.server, early.server = "", p.place
	in := l.takes[early]
	if in == nil || in.bound && w.loads {
		in = l.takes[fresh]
	}
	if in == nil || !w.loads {
		return in
	}
	delete(l.takes, in.key)
	in.key = k
	l.takes[k] = in
	return in
}

// makeRoom chooses what must end before another process may start: the idle one that has been unused longest, or one
// of the same clients that only finishes its calls.
func (l *pool) makeRoom(k key, server string) (victims []*instance, ok bool) {
	for l.count() >= l.max {
		victim := l.longestIdle()
		if victim == nil {
			victim = l.finishing(k)
		}
		if victim == nil {
			return victims, k.own == nil || !l.hasOwn(k, server)
		}
		l.kill(victim)
		victim.replaced = true
		victims = append(victims, victim)
	}
	return victims, true
}

func (l *pool) count() (n int) {
	for in := range l.all {
		if !in.replaced {
			n++
		}
	}
	return n
}

func (l *pool) longestIdle() (longest *instance) {
	for in := range l.all {
		if !in.closed && in.joined == 0 && (longest == nil || in.used.Before(longest.used)) {
			longest = in
		}
	}
	return longest
}

// finishing returns a process of the same clients that accepts no new calls.
func (l *pool) finishing(k key) *instance {
	for in := range l.all {
		if in.closed && !in.replaced && in.key.provider == k.provider && in.key.server == k.server && in.isReady() {
			return in
		}
	}
	return nil
}

// hasOwn reports whether a client of the same server has its own process.
func (l *pool) hasOwn(k key, server string) bool {
	for in := range l.all {
		if in.key.own != nil && !in.replaced && in.key.provider == k.provider && cmp.Or(in.key.server, in.place) == server {
			return true
		}
	}
	return false
}

// run starts a process in its turn.
func (l *pool) run(in *instance, spec Spec, victims []*instance) {
	for _, victim := range victims {
		l.end(victim)
	}
	l.mu.Lock()
	at := l.notYet[in.key]
	k := in.key
	l.mu.Unlock()
	done, err := l.turn(in.starting, at)
	var r *running
	begun := time.Now()
	if err == nil {
		r, err = l.start(in.starting, k, spec)
		done()
	}
	l.mu.Lock()
	in.running, in.err, in.begun = r, err, begun
	if err == nil {
		in.pid = r.child.ID()
	} else {
		l.close(in)
		l.failing(in)
		delete(l.all, in)
		l.free()
	}
	close(in.ready)
	l.mu.Unlock()
}

// turn waits until a process may be started. Call the returned function after the start.
func (l *pool) turn(ctx context.Context, at time.Time) (done func(), err error) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case l.starting <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	over := sync.OnceFunc(func() { <-l.starting })
	late := time.AfterFunc(startTurn, over)
	return func() {
		late.Stop()
		over()
	}, nil
}

// failing notes that a process has failed: the next one of its clients is not started at once.
func (l *pool) failing(in *instance) {
	now := time.Now()
	maps.DeleteFunc(l.notYet, func(_ key, at time.Time) bool { return now.After(at) })
	if next := in.begun.Add(l.gap); next.After(now) {
		l.notYet[in.key] = next
	}
}

// close makes a process accept no new calls.
func (l *pool) close(in *instance) {
	in.closed = true
	if l.takes[in.key] == in {
		delete(l.takes, in.key)
	}
	if in.timer != nil {
		in.timer.Stop()
	}
}

// kill ends a running process at once. Clients with calls under way in it are not to blame.
func (l *pool) kill(in *instance) {
	l.close(in)
	in.killed = true
	_ = in.running.child.Kill(context.Background())
}

func (l *pool) free() {
	close(l.freed)
	l.freed = make(chan struct{})
}

// leave is the counterpart of join. The last call to leave ends a process that is no longer wanted, or starts its
// idle timer.
func (l *pool) leave(in *instance, p *Process) {
	l.mu.Lock()
	in.joined--
	switch {
	case in.joined > 0:
		l.mu.Unlock()
		return
	case !in.isReady():
		l.close(in)
		in.cancel()
		l.mu.Unlock()
		<-in.ready
		l.end(in)
		return
	case in.closed, len(in.users) == 0, l.count() > l.max:
		l.close(in)
		l.mu.Unlock()
		l.end(in)
		return
	}
	in.used = time.Now()
	in.timer = time.AfterFunc(l.idle, func() { l.endIdle(in) })
	l.free()
	l.mu.Unlock()
}

func (l *pool) endIdle(in *instance) {
	l.mu.Lock()
	idle := in.joined == 0 && !in.closed
	if idle {
		l.kill(in)
	}
	l.mu.Unlock()
	if idle {
		l.end(in)
		in.running.log.Debug("provider stopped, unused", "pid", in.pid)
	}
}

// end ends a closed process, and waits for its end.
func (l *pool) end(in *instance) {
	if in.running != nil {
		in.once.Do(in.running.end)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, there := l.all[in]; there {
		delete(l.all, in)
		l.free()
	}
}

// forget removes a client from the processes that it has used. A process without other users ends.
func (l *pool) forget(p *Process) {
	l.mu.Lock()
	var unused []*instance
	for _, in := range slices.Collect(maps.Keys(l.all)) {
		if _, used := in.users[p]; !used {
			continue
		}
		delete(in.users, p)
		if len(in.users) == 0 && in.isReady() {
			l.kill(in)
			unused = append(unused, in)
		}
	}
	l.mu.Unlock()
	for _, in := range unused {
		l.end(in)
	}
}
