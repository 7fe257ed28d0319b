package gate

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/config"
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

// unresolved returns the key of a client that has yet to find out its token endpoint.
func unresolved(cfg config.Client) Key {
	return Key{ClientID: cfg.ClientID, Server: "issuer " + oauth.CanonicalEndpoint(cfg.Issuer)}
}

// Waits is what all commands on the host know of what servers asked for. It may block as long as its
// file system does.
type Waits interface {
	Until(endpoint, clientID string) (time.Time, error)
	Extend(endpoint, clientID string, until time.Time) error
	// Turn takes the client's turn to send a request after a wait. taken is false while another command
	// has it; else done gives it back.
	Turn(endpoint, clientID string) (done func(), taken bool)
}

// Options are what gates are made with.
type Options struct {
	Waits     Waits                                // nil for none but this process's own
	Roll      func(clientID string) func() float64 // makes a source of jitter
	Recovered func(g *Gate, since time.Time)       // called when an outage ended that had begun at since
	Waiting   func()                               // called when requests wait for what another process was asked
	Log       *slog.Logger
	// StrictNotes lets no request go out that could not be noted before.
	StrictNotes bool
}

// Gates are the gates of a process. Its methods may be called from several goroutines.
type Gates struct {
	o Options

	mu    sync.Mutex
	byKey map[Key]*Gate   // guarded by mu, as is ctx
	ctx   context.Context // nil before the start
}

// NewGates returns no gates yet.
func NewGates(o Options) *Gates { return &Gates{o: o, byKey: map[Key]*Gate{}} }

// At returns the gate of a key.
func (s *Gates) At(key Key) *Gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.byKey[key]
	if !ok {
		g = newGate(key, s)
		s.byKey[key] = g
		if s.ctx != nil {
			g.start(s.ctx)
		}
	}
	return g
}

// All returns the gates that there are.
func (s *Gates) All() []*Gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Gate, 0, len(s.byKey))
	for _, g := range s.byKey {
		all = append(all, g)
	}
	return all
}

// Start lets requests pass until ctx ends. Only the first call does anything.
func (s *Gates) Start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx != nil {
		return
	}
	s.ctx = ctx
	for _, g := range s.byKey {
		g.start(ctx)
	}
}

// Stop ends what is under way and waits for that.
func (s *Gates) Stop() {
	for _, g := range s.All() {
		g.stop()
	}
}

// Drop ends a gate that no client passes, as far as free says so while nobody gets one, unless the server
// asked for a wait: a later configuration may have that client again. Its clients have finished. It
// reports whether the gate is still there although it is free.
func (s *Gates) Drop(g *Gate, free func() bool) (waits bool) {
	s.mu.Lock()
	drop := s.byKey[g.key] == g && free()
	waits = drop && !policy.Passed(time.Now(), g.View().OpensAt())
	if drop && !waits {
		delete(s.byKey, g.key)
	}
	s.mu.Unlock()
	if drop && !waits {
		g.stop()
	}
	return waits
}

// waitsOf returns until when other commands on the host know that the server asked for a wait. A file
// system that does not answer costs no workload its token.
func (s *Gates) waitsOf(ctx context.Context, key Key) time.Time {
	if s.o.Waits == nil {
		return time.Time{}
	}
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
func (s *Gates) turn(ctx context.Context, key Key, limit time.Duration) (done func()) {
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
func (s *Gates) takeTurn(ctx context.Context, key Key) (done func()) {
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
func (s *Gates) keepWait(key Key, until time.Time) {
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
