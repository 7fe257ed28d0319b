package agent

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// restShare is how many times as long as it takes to look at everything a reader of changes is
	// left alone after each, and restTime how long at most. With ten thousand tokens there are eighty
	// changes a second, and a look takes milliseconds.
	restShare = 200
	restTime  = time.Second
)

// changes tells one reader that something is different. Bursts coalesce.
type changes struct {
	told chan struct{}
	took atomic.Int64 // how long the last look took, nanoseconds

	mu      sync.Mutex
	last    time.Time // when the reader was told; guarded by mu, as is pending
	pending bool      // it will be told
}

func newChanges() *changes { return &changes{told: make(chan struct{}, 1)} }

// readIn takes note of how long a look at everything took.
func (c *changes) readIn(took time.Duration) { c.took.Store(int64(took)) }

// tell tells the reader, at once if it has rested.
func (c *changes) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending {
		return
	}
	rest := min(restShare*time.Duration(c.took.Load()), restTime)
	now := time.Now()
	if left := c.last.Add(rest).Sub(now); left > 0 {
		c.pending = true
		time.AfterFunc(left, c.rested)
		return
	}
	c.send(now)
}

func (c *changes) rested() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = false
	c.send(time.Now())
}

// send leaves word; c.mu is held.
func (c *changes) send(now time.Time) {
	c.last = now
	select {
	case c.told <- struct{}{}:
	default:
	}
}
