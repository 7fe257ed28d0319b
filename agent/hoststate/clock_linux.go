package hoststate

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SystemClock returns the host's clock since boot.
func SystemClock() Clock {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil
	}
	return bootClock(strings.TrimSpace(string(id)))
}

type bootClock string

func (c bootClock) Boot() (string, time.Duration) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return "", 0
	}
	return string(c), time.Duration(now.Nano())
}
