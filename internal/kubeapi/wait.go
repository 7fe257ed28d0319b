package kubeapi

import (
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	shortestWait = time.Second
	longestWait  = 30 * time.Second // of our own
	mostAsked    = 5 * time.Minute  // of what the API server may ask for at once
)

// WaitError says that a request was not sent, as the API server is left alone for a while.
type WaitError struct {
	Wait time.Duration // what is left of it
	Err  error         // what the wait is for
}

// Error implements error.
func (e *WaitError) Error() string {
	return fmt.Sprintf("the API server is left alone for %s more: %v", e.Wait.Round(time.Second), e.Err)
}

// Unwrap returns the cause.
func (e *WaitError) Unwrap() error { return e.Err }

// mayAsk returns a [*WaitError] while a wait holds.
func (c *Client) mayAsk() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := time.Until(c.until); left > 0 {
		return &WaitError{Wait: left, Err: c.why}
	}
	return nil
}

// failed notes that the API server could not do its work, and returns why. Requests that fail at the same
// time count as one failure.
func (c *Client) failed(why error, asked time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !now.Before(c.until) {
		wait := min(shortestWait<<min(c.failures, 10), longestWait)
		c.failures++
		c.until = now.Add(wait + rand.N(wait/2))
	}
	if asked = min(asked, mostAsked); now.Add(asked).After(c.until) {
		c.until = now.Add(asked)
	}
	c.why = why
	return why
}

// answered notes that the API server did its work.
func (c *Client) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = 0
}

// Wait is how long the API server is to be left alone.
func (c *Client) Wait() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(time.Until(c.until), 0)
}
