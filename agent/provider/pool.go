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
	// maxCalls bounds what is under way in one process; the others wait for their turn.
	maxCalls = 128
	// startsAtOnce bounds how many processes are being started, each of which counts for startTurn at
	// most: one that does not become ready holds up no other for longer.
	startsAtOnce = 4
	startTurn    = 250 * time.Millisecond
	// suspicion is how long a client has a process of its own after a fault.
	suspicion = 24 * time.Hour
)

// key says whose calls a process takes.
type key struct {
	provider  string
	variables string   // what holds for the whole process, see settings
	server    string   // where its requests go, or what stands for that; "" while no credential was loaded in it
	own       *Process // the client that has it for itself; nil for all
}

// want is what a call needs of its process.
type want struct {
	to    *handshake.Destination // nil for a call that sends nothing
	loads bool                   // the call has the process load the credential
}

// pool owns the processes: one for each provider and authorization server, and one for each client that
// is under suspicion.
//
// Beyond the limit of processes there is, for each server, one that its clients share and one for those
// of them that are under suspicion: so servers never wait for each other.
type pool struct {
	max      int
	idle     time.Duration
	gap      time.Duration // between the starts of a process that keeps failing
	start    func(ctx context.Context, k key, spec Spec) (*running, error)
	starting chan struct{}

	mu      sync.Mutex
	handles int                    // guarded by mu, as are all that follow
	takes   map[key]*instance      // those that take new calls
	all     map[*instance]struct{} // those too that only finish what is under way, or end
	known   map[string]string      // issuer → the origins of its token endpoint
	notYet  map[key]time.Time      // when the next one may be started, where the last one failed
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

// place stands for the server of a client whose token endpoint is not known.
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

// join finds the process for a call, or has one started. Every join is followed by a leave.
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

// find returns the process for a call; where there is no room for it, what tells of room. l.mu is held,
// as in all that follows but for leave, end and run.
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

// keyOf says which process a call belongs to.
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

// running returns the process that takes calls of the key. One that has loaded nothing yet, or that is
// not bound and is of the same issuer, becomes the key's. A call that loads nothing is content with one
// that has loaded nothing.
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

// makeRoom chooses what ends before another process may start: the idle one that is unused for longest,
// or one of the same clients that only finishes what is under way.
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

// finishing returns a process of the same clients that takes no new calls.
func (l *pool) finishing(k key) *instance {
	for in := range l.all {
		if in.closed && !in.replaced && in.key.provider == k.provider && in.key.server == k.server && in.isReady() {
			return in
		}
	}
	return nil
}

// hasOwn reports whether a client of the same server has a process for itself.
func (l *pool) hasOwn(k key, server string) bool {
	for in := range l.all {
		if in.key.own != nil && !in.replaced && in.key.provider == k.provider && cmp.Or(in.key.server, in.place) == server {
			return true
		}
	}
	return false
}

// run starts a process when it is its turn.
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

// turn waits until a process may be started. What it returns is called when it was.
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

// close has a process take no new calls.
func (l *pool) close(in *instance) {
	in.closed = true
	if l.takes[in.key] == in {
		delete(l.takes, in.key)
	}
	if in.timer != nil {
		in.timer.Stop()
	}
}

// kill has a process that runs end at once. That is no fault of whoever has calls under way in it.
func (l *pool) kill(in *instance) {
	l.close(in)
	in.killed = true
	_ = in.running.child.Kill(context.Background())
}

func (l *pool) free() {
	close(l.freed)
	l.freed = make(chan struct{})
}

// leave ends what join began. The last one to leave ends a process that is not wanted any more, or lets
// it end when it stays unused.
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

// end ends a process that is closed, and waits for that.
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

// forget takes a client from the processes that it has used. One that nobody else has used ends.
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
