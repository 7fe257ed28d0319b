package gate

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/logkey"
)

// Key is what a gate is to the server: a client_id at one token endpoint, however that is written.
// Configured clients that are one to the server share the gate.
type Key store.GateKey

// keyOf returns the key of a client whose token endpoint is known.
func keyOf(clientID, endpoint string) Key {
	return Key{ClientID: clientID, Server: oauth.CanonicalEndpoint(endpoint)}
}

// Options are what a set is made with.
type Options struct {
	Waits store.Waits                          // nil for none but this process's own
	Roll  func(clientID string) func() float64 // makes a source of jitter
	// Recovered is called when an outage ended that had begun at since, for those whose requests pass the gate.
	Recovered func(clients []*config.Client, since time.Time)
	Waiting   func()                      // called when requests wait for what another process was asked
	Replaced  func(client *config.Client) // called when a client has another credential in use than before
	Metrics   *metrics.Metrics
	Log       *slog.Logger
	// StrictNotes lets no request go out that could not be noted before.
	StrictNotes bool
}

// Set is the gates of a process and the clients whose requests pass them. A gate is there while a client
// may pass it, and for as long as its server asked for a wait: a later configuration may have that client
// again. Clients are told apart by their configuration, by its address. Its methods may be called from
// several goroutines.
type Set struct {
	o    Options
	disk chan struct{} // holds a value for each request that waits for the disk

	mu       sync.Mutex
	gates    map[Key]*Gate            // guarded by mu, as is all that follows
	passing  map[Key]map[*Client]bool // by [Client.passes]
	idle     []*Gate                  // those that no client passed, as far as was seen, each once
	restored map[*Client]bool         // credentials to compare with those that an earlier process used
	ctx      context.Context          // nil before the start

	looking  atomic.Bool // the credentials' files are being looked at
	noticing sync.Mutex  // guards what was logged of the credentials' ends
}

// NewSet returns a set without gates and clients.
func NewSet(o Options) *Set {
	return &Set{o: o, disk: make(chan struct{}, maxAtDisk), gates: map[Key]*Gate{}, passing: map[Key]map[*Client]bool{}, restored: map[*Client]bool{}}
}

// maxAtDisk is how many requests may be noted, or read the host's waits, at the same time. If all clients that are
// due at a start did so together, most would take longer than [NoteTimeout] on an ordinary disk. Each takes no longer
// than that, so a disk that hangs does not stop the others.
const maxAtDisk = 64

// atDisk waits for a turn at the disk and returns the function that ends it.
func (s *Set) atDisk(ctx context.Context) (done func()) {
	select {
	case s.disk <- struct{}{}:
		return func() { <-s.disk }
	case <-ctx.Done():
		return func() {}
	}
}

// at returns the gate of a key, which is made if need be; s.mu is held.
func (s *Set) at(key Key) *Gate {
	g, ok := s.gates[key]
	if !ok {
		g = newGate(key, s)
		s.gates[key] = g
		if s.ctx != nil {
			g.ctx, g.cancel = context.WithCancel(s.ctx)
			g.work.Start()
		}
	}
	return g
}

// join has a new client's requests pass the gate of a key.
func (s *Set) join(c *Client, key Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.gate.Store(s.at(key))
	if s.passing[c.passes] == nil {
		s.passing[c.passes] = map[*Client]bool{}
	}
	s.passing[c.passes][c] = true
}

// move has a client's requests pass the gate of another key from now on, and returns that.
func (s *Set) move(c *Client, key Key) *Gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest(c.Gate())
	g := s.at(key)
	c.gate.Store(g)
	return g
}

// leave takes a client out of the set.
func (s *Set) leave(c *Client) {
	s.mu.Lock()
	clients := s.passing[c.passes]
	if !clients[c] {
		s.mu.Unlock()
		return
	}
	if delete(clients, c); len(clients) == 0 {
		delete(s.passing, c.passes)
	}
	delete(s.restored, c)
	s.rest(c.Gate())
	ended := s.drop()
	s.mu.Unlock()
	for _, g := range ended {
		g.stop()
	}
}

// rest has a gate dropped when no client passes it any more; s.mu is held.
func (s *Set) rest(g *Gate) {
	if !g.idle {
		g.idle = true
		s.idle = append(s.idle, g)
	}
}

// mostDrops is how many gates are looked at when a client leaves, which adds one: so that those whose wait
// is over do not pile up.
const mostDrops = 4

// drop takes out some gates that no client passes, but for those at which the server asked for a wait;
// s.mu is held. They are to be stopped.
func (s *Set) drop() (ended []*Gate) {
	for range min(len(s.idle), mostDrops) {
		g := s.idle[0]
		s.idle = s.idle[1:]
		switch {
		case len(s.passing[g.key]) > 0: // the last of them has it dropped
			g.idle = false
		case len(s.passing[Key{ClientID: g.key.ClientID}]) > 0, !policy.Passed(time.Now(), g.View().OpensAt()):
			s.idle = append(s.idle, g)
		default:
			delete(s.gates, g.key)
			ended = append(ended, g)
		}
	}
	return ended
}

// clients returns the configurations of those whose requests pass the gate.
func (g *Gate) clients() (all []*config.Client) {
	s := g.set
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range []Key{g.key, {ClientID: g.key.ClientID}} {
		for c := range s.passing[key] {
			if c.Gate() == g {
				all = append(all, c.cfg)
			}
		}
	}
	return all
}

// Clients returns the clients, sorted by name.
func (s *Set) Clients() (all []*Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, clients := range s.passing {
		all = slices.AppendSeq(all, maps.Keys(clients))
	}
	slices.SortFunc(all, func(a, b *Client) int { return cmp.Compare(a.cfg.Name, b.cfg.Name) })
	return all
}

// All returns the gates that there are.
func (s *Set) All() []*Gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.gates))
}

// Restore takes over the state of gates that an earlier process saved, also of those that no client passes
// now: a later configuration may have it. It comes before the start.
func (s *Set) Restore(states map[store.GateKey]policy.Gate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, state := range states {
		g := s.at(Key(key))
		g.restore(state)
		s.rest(g)
	}
}

// Start lets requests pass until ctx ends.
func (s *Set) Start(ctx context.Context) {
	s.mu.Lock()
	s.ctx = ctx
	for _, g := range s.gates {
		g.ctx, g.cancel = context.WithCancel(ctx)
	}
	s.mu.Unlock()
	for _, g := range s.All() {
		g.work.Start()
	}
}

// Stop ends the requests that are under way and then the providers' processes, all at once: one that does
// not end holds up no other. It waits for that.
func (s *Set) Stop() {
	for _, g := range s.All() {
		g.stop()
	}
	var closing sync.WaitGroup
	for _, c := range s.Clients() {
		closing.Go(c.close)
	}
	closing.Wait()
}

// Wake has the gates look at the clock again, after the host was suspended for so long; 0 for not at all.
// That time is taken off what servers asked for.
func (s *Set) Wake(suspended time.Duration) {
	for _, g := range s.All() {
		g.edit(func(state policy.Gate) policy.Gate { return state.Suspended(suspended) })
	}
}

// waitsOf returns until when other commands on the host know that the server asked for a wait. A file
// system that does not answer costs no workload its token.
func (s *Set) waitsOf(ctx context.Context, key Key) time.Time {
	if s.o.Waits == nil {
		return time.Time{}
	}
	defer s.atDisk(ctx)()
	read := make(chan time.Time, 1)
	go func() {
		until, err := s.o.Waits.Until(key.Server, key.ClientID)
		if err != nil {
			s.o.Log.Warn("cannot read what the server asked other commands for", logkey.Error, err)
		}
		read <- until
	}()
	timer := time.NewTimer(NoteTimeout)
	defer timer.Stop()
	select {
	case until := <-read:
		return until
	case <-timer.C:
		s.o.Log.Warn("sending a request although the directory of the host's waits does not answer")
	case <-ctx.Done():
	}
	return time.Time{}
}

// turnInterval is how often a turn is tried for.
const turnInterval = 20 * time.Millisecond

// turn waits for a client's turn to find out whether the server answers again after a wait, for no longer than
// limit: a command that was stopped must not stop others. It returns what gives the turn back.
func (s *Set) turn(ctx context.Context, key Key, limit time.Duration) (done func()) {
	if s.o.Waits == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	taken := make(chan func(), 1)
	go func() { taken <- s.takeTurn(ctx, key) }()
	select {
	case done := <-taken:
		return done
	case <-ctx.Done():
		go func() {
			if late := <-taken; late != nil { // from a file system that did not answer
				late()
			}
		}()
		return nil
	}
}

// takeTurn tries for a client's turn until ctx ends; nil is none.
func (s *Set) takeTurn(ctx context.Context, key Key) (done func()) {
	again := time.NewTicker(turnInterval)
	defer again.Stop()
	for {
		if done, taken := s.o.Waits.Turn(key.Server, key.ClientID); taken {
			return done
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// keepWait has other commands on the host know what the server asked for. A file system that does not
// answer holds up nothing, the agent's end neither.
func (s *Set) keepWait(key Key, until time.Time) {
	if s.o.Waits == nil {
		return
	}
	kept := make(chan error, 1)
	go func() { kept <- s.o.Waits.Extend(key.Server, key.ClientID, until) }()
	timer := time.NewTimer(NoteTimeout)
	defer timer.Stop()
	var err error
	select {
	case err = <-kept:
	case <-timer.C:
		err = fmt.Errorf("the directory of the host's waits did not answer within %v", NoteTimeout)
	}
	if err != nil {
		s.o.Log.Warn("other commands on this host may not know what the server asked for", logkey.Error, err)
	}
}
