package agent

import "sync"

// turns has something done whenever it is called for, in a goroutine that is there only meanwhile,
// and never twice at once: what it owns needs no lock. Who calls while it runs gets one more turn.
type turns struct {
	do func()

	mu      sync.Mutex
	started bool // guarded by mu, as is all down to ended
	running bool
	again   bool
	stopped bool
	ended   sync.WaitGroup
}

// start takes the first turn, for whoever has called since there were any, and returns after it.
func (t *turns) start() {
	t.mu.Lock()
	if t.started || t.stopped {
		t.mu.Unlock()
		return
	}
	t.started = true
	t.begin()
	t.mu.Unlock()
	t.run()
}

// call asks for a turn. It does not wait. Before the start and after the end there is none.
func (t *turns) call() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.started || t.stopped:
	case t.running:
		t.again = true
	default:
		t.begin()
		go t.run()
	}
}

// begin begins to run; t.mu is held.
func (t *turns) begin() {
	t.running = true
	t.ended.Add(1)
}

func (t *turns) run() {
	defer t.ended.Done()
	for again := true; again; again = t.next() {
		t.do()
	}
}

// next reports whether there is one more turn.
func (t *turns) next() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = t.again && !t.stopped
	t.again = false
	return t.running
}

// stop ends the turns, and waits for the one that is under way.
func (t *turns) stop() {
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	t.ended.Wait()
}
