// Package clockwatch tells when the wall clock jumps: when somebody sets it, and when the machine
// wakes up from a sleep, during which the monotonic clock stood still.
package clockwatch

import "errors"

// ErrNotTold says that the system does not tell of the clock, so that one has to look.
var ErrNotTold = errors.New("the system does not tell when the clock is set")
