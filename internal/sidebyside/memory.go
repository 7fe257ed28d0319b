package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// memory is what processes have in memory, in bytes.
type memory struct {
	resident  int // pages of mapped files too, and one that two processes share counts twice
	anonymous int // what only they have
}

// sample is the memory of a program at one instant.
type sample struct {
	whole memory // with all processes that it has started
	alone memory // the one process that was started
}

// measure looks at a process and all its descendants. One that ends meanwhile has no memory.
func measure(pid int) (sample, error) {
	alone, err := memoryOf(pid)
	if err != nil {
		return sample{}, fmt.Errorf("measuring process %d: %w", pid, err)
	}
	children, err := childrenByParent()
	if err != nil {
		return sample{}, fmt.Errorf("looking for the processes of %d: %w", pid, err)
	}
	s := sample{whole: alone, alone: alone}
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		if m, err := memoryOf(queue[0]); err == nil {
			s.whole.resident += m.resident
			s.whole.anonymous += m.anonymous
		}
		queue = append(queue, children[queue[0]]...)
	}
	return s, nil
}

// memoryOf reads /proc/PID/status, which also tells of a process that may not be traced, as a
// provider's; smaps_rollup does not.
func memoryOf(pid int) (memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	return memory{resident: kilobytes(string(text), "VmRSS:"), anonymous: kilobytes(string(text), "RssAnon:")}, nil
}

func kilobytes(status, name string) int {
	_, rest, _ := strings.Cut(status, "\n"+name)
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, _ := strconv.Atoi(number) // a process that is ending has none
	return n << 10
}

func childrenByParent() (map[int][]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if parent := parentOf(pid); parent > 0 {
			children[parent] = append(children[parent], pid)
		}
	}
	return children, nil
}

// parentOf reads the parent's number, which follows the name in parentheses and the state; 0 for a
// process that has ended.
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// spread is the median and the peak of something over all samples.
func spread(samples []sample, of func(sample) int) (median, peak int) {
	var all []int
	for _, s := range samples {
		all = append(all, of(s))
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)-1]
}
