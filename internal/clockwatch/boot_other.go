//go:build !linux

package clockwatch

import "time"

// SinceBoot reports that it is not known here.
func SinceBoot() (time.Duration, bool) { return 0, false }
