// Package usage tells what a process uses, by the kernel's account; for tests and benchmarks.
package usage

import (
	"fmt"
	"time"

	"github.com/prometheus/procfs"
)

// Memory is what a process has in memory, in bytes.
type Memory struct {
	Resident  int // with the pages of mapped files; one that two processes share counts for both
	Anonymous int // what only this process has
}

// Usage is what a process uses at one instant.
type Usage struct {
	Memory
	CPU         time.Duration // that its threads have used so far; those that ended are not counted
	Switches    int           // how often its threads went to sleep so far: no fewer than its wake-ups
	Threads     int
	Descriptors int
}

// MemoryOf looks at the memory of a process, also of one that may not be traced.
func MemoryOf(pid int) (Memory, error) {
	var status procfs.ProcStatus
	process, err := procfs.NewProc(pid)
	if err == nil {
		status, err = process.NewStatus()
	}
	if err != nil {
		return Memory{}, fmt.Errorf("looking at the memory of process %d: %w", pid, err)
	}
	return Memory{int(status.VmRSS), int(status.RssAnon)}, nil
}

// Of looks at a process. The account of one that may not be traced, such as a credential provider, is
// open to root only.
func Of(pid int) (Usage, error) {
	u, err := of(pid)
	if err != nil {
		return Usage{}, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	return u, nil
}

func of(pid int) (Usage, error) {
	memory, err := MemoryOf(pid)
	if err != nil {
		return Usage{}, err
	}
	process, err := procfs.NewProc(pid)
	if err != nil {
		return Usage{}, err
	}
	descriptors, err := process.FileDescriptorsLen()
	if err != nil {
		return Usage{}, err
	}
	threads, err := procfs.AllThreads(pid)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Memory: memory, Threads: len(threads), Descriptors: descriptors}
	for _, thread := range threads {
		ran, err := thread.Schedstat()
		if err != nil {
			continue // it has ended
		}
		status, err := thread.NewStatus()
		if err != nil {
			continue
		}
		u.CPU += time.Duration(ran.RunningNanoseconds)
		u.Switches += int(status.VoluntaryCtxtSwitches)
	}
	return u, nil
}

// Children returns the processes that a process has started and that have not ended.
func Children(pid int) ([]int, error) {
	processes, err := procfs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("looking for the children of process %d: %w", pid, err)
	}
	var children []int
	for _, process := range processes {
		if stat, err := process.Stat(); err == nil && stat.PPID == pid { // else it has ended
			children = append(children, process.PID)
		}
	}
	return children, nil
}
