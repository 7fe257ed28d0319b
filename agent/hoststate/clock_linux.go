package hoststate

import (
	"os"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/clockwatch"
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
	since, known := clockwatch.SinceBoot()
	if !known {
		return "", 0
	}
	return string(c), since
}
