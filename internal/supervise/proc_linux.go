package supervise

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/internal/process"
)

// realTime returns the real-time signals (signal(7)) except the first two, which C libraries use themselves.
func realTime() []os.Signal {
	var all []os.Signal
	for n := 34; n <= highestSignal; n++ {
		all = append(all, syscall.Signal(n))
	}
	return all
}

// isIgnoredNow reports whether this process ignores a signal.
func isIgnoredNow(n int) bool { return hasSignal("self", "SigIgn:", n) }

// handlesSignal reports whether a signal is safe for a process: the process catches or ignores it, or the signal does
// not end it by default. It reports true if that is unknown.
func handlesSignal(pid int, s os.Signal) bool {
	switch s {
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL: // these are meant to end it
		return true
	case syscall.SIGCONT, syscall.SIGWINCH, syscall.SIGCHLD, syscall.SIGURG, syscall.SIGSTOP, syscall.SIGTSTP:
		return true
	}
	at := strconv.Itoa(pid)
	if _, err := os.Stat("/proc/" + at + "/status"); err != nil {
		return true
	}
	return hasSignal(at, "SigCgt:", number(s)) || hasSignal(at, "SigIgn:", number(s))
}

// hasSignal reports whether a signal is in a mask of /proc/PID/status.
func hasSignal(pid, mask string, n int) bool {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if hex, ok := strings.CutPrefix(line, mask); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return err == nil && bits&(1<<(n-1)) != 0
		}
	}
	return false
}

// processes returns all running processes, without zombies.
func processes() map[int]process.Stat {
	all := map[int]process.Stat{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if stat, ok := process.ReadStat(pid); ok && !stat.Ended() {
			all[pid] = stat
		}
	}
	return all
}

// family is a command and all its descendants. This process is a subreaper (prctl(2)), so orphans among them become
// its children.
type family struct {
	kill    os.Signal
	limit   time.Duration        // until those that do not end are killed
	members map[int]process.Stat // as of the last check
}

func newFamily(plan Plan) *family {
	if unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != nil {
		return nil
	}
	return &family{kill: plan.KillSignal, limit: plan.RestartTime}
}

// update records the current members of a running command's family.
func (f *family) update(command int) { f.members = below(processes(), command) }

// below returns the descendants of a process.
func below(all map[int]process.Stat, root int) map[int]process.Stat {
	found := map[int]process.Stat{}
	for grown := true; grown; {
		grown = false
		for pid, k := range all {
			_, parentFound := found[k.Parent]
			if _, known := found[pid]; !known && (k.Parent == root || parentFound) {
				found[pid], grown = k, true
			}
		}
	}
	return found
}

// left returns the processes that still run after the command itself has ended: previous members, their descendants,
// and orphans in this process's own group, which has only the command's processes. Orphans in other sessions may
// belong to another program, and are only counted.
func (f *family) left() (members []int, detached []int) {
	all := processes()
	found := map[int]bool{}
	for pid, k := range f.members {
		if now, runs := all[pid]; runs && now.Start == k.Start {
			found[pid] = true
			for child := range below(all, pid) {
				found[child] = true
			}
		}
	}
	self, group := os.Getpid(), unix.Getpgrp()
	for pid, k := range all {
		switch {
		case k.Parent != self || found[pid] || process.Started(pid):
		case k.Group == group:
			found[pid] = true
		case k.Session == pid:
			detached = append(detached, pid)
		}
	}
	return slices.Sorted(maps.Keys(found)), detached
}

// clear ends the processes that a command has left, and returns those that still run.
func (f *family) clear() (remaining []int) {
	const look, hopeless = 20 * time.Millisecond, 2 * time.Second
	limit := f.limit
	if limit == 0 {
		limit = 10 * time.Second
	}
	began, told := time.Now(), map[int]bool{}
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		members, detached := f.left()
		passed := time.Since(began)
		if len(members) == 0 || passed > limit+hopeless {
			return append(members, detached...)
		}
		for _, pid := range members {
			switch {
			case passed > limit:
				_ = unix.Kill(pid, unix.SIGKILL)
			case !told[pid]:
				told[pid] = true
				_ = unix.Kill(pid, unix.Signal(number(f.kill)))
			}
		}
		<-ticker.C
	}
}

// numbers formats process ids for a message.
func numbers(pids []int) string { return strings.Trim(fmt.Sprint(pids), "[]") }
