// Package clockwatch reports when the wall clock jumps: when it is set, and when the machine wakes up from a sleep,
// during which the monotonic clock stood still.
package clockwatch

import "errors"

// ErrNotTold means that the system does not report changes of the clock: poll instead.
var ErrNotTold = errors.New("the system does not tell when the clock is set")
