package sink

import "time"

// LaterError is a failed write that must not be repeated before a wait is over, because the server that keeps the
// content asked for that.
type LaterError struct {
	Err     error
	Wait    time.Duration
	Untried bool // nothing was attempted: an earlier wait still applies
}

// Error implements error.
func (e *LaterError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *LaterError) Unwrap() error { return e.Err }
