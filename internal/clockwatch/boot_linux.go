package clockwatch

import (
	"time"

	"golang.org/x/sys/unix"
)

// SinceBoot returns how long ago the machine was started, including suspends (CLOCK_BOOTTIME); false if that is
// unknown.
func SinceBoot() (time.Duration, bool) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, false
	}
	return time.Duration(now.Nano()), true
}
