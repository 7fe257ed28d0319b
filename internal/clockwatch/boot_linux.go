package clockwatch

import (
	"time"

	"golang.org/x/sys/unix"
)

// SinceBoot returns how long ago the machine was started, the time of suspends included
// (CLOCK_BOOTTIME); false where that is not known.
func SinceBoot() (time.Duration, bool) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, false
	}
	return time.Duration(now.Nano()), true
}
