package delivery

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/internal/process"
)

const (
	// tick is the unit of a process's start in /proc: the same on every Linux system.
	tick = time.Second / 100
	// slack is how much younger than its file a process may seem, because clocks are slewed.
	slack = 2 * time.Second
)

// check refuses a process that cannot be the intended one, according to /proc.
func (f pidFile) check() error {
	if stat, ok := process.ReadStat(f.pid); ok && stat.Ended() {
		return fmt.Errorf("process %d has ended, and whoever started it has not noticed (a zombie); the program is not running", f.pid)
	}
	if started, ok := startOf(f.pid); ok && started.After(f.info.ModTime().Add(slack)) {
		return fmt.Errorf("process %d began at %s, after the file was written at %s: it has the number of another that ended; refusing",
			f.pid, started.UTC().Format(time.RFC3339), f.info.ModTime().UTC().Format(time.RFC3339))
	}
	owner, ok := f.info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	if uid, ok := userOf(f.pid); ok && uid != int(owner.Uid) {
		return fmt.Errorf("the file belongs to user %d, but process %d to user %d: its owner could have anybody's process signalled; refusing, give the file to root",
			owner.Uid, f.pid, uid)
	}
	return nil
}

// startOf returns when a process started, by the current wall clock.
func startOf(pid int) (time.Time, bool) {
	stat, ok := process.ReadStat(pid)
	var sinceBoot unix.Timespec
	if !ok || unix.ClockGettime(unix.CLOCK_BOOTTIME, &sinceBoot) != nil {
		return time.Time{}, false
	}
	age := time.Duration(sinceBoot.Nano()) - time.Duration(stat.Start)*tick //nolint:gosec // a boot is not that long ago
	return time.Now().Add(-age), true
}

// userOf returns the real user of a process.
func userOf(pid int) (int, bool) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			uid, err := strconv.Atoi(strings.Fields(rest + " -")[0])
			return uid, err == nil
		}
	}
	return 0, false
}
