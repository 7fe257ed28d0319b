// Package usage reports a process's memory and processor time, as accounted by the kernel; for tests and benchmarks.
package usage

import (
	"fmt"
	"time"

	"github.com/prometheus/procfs"
)

// Memory is the memory of a process, in bytes.
type Memory struct {
	Resident  int // with pages of mapped files; shared pages count for each process
	Anonymous int // private memory
}

// Usage is a process's resource usage at one instant.
type Usage struct {
	Memory
	CPU         time.Duration // of its threads so far, without ended ones
	Switches    int           // how often its threads went to sleep so far; at least the number of wake-ups
	Threads     int
	Descriptors int
}

// MemoryOf returns the memory of a process, even of one that may not be traced.
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

// Of returns the usage of a process. For one that may not be traced, such as a credential provider, it needs root.
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
		if stat, err := process.Stat(); err == nil && stat.PPID == pid { // otherwise it has ended
			children = append(children, process.PID)
		}
	}
	return children, nil
}
