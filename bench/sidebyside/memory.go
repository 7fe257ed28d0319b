package main

import (
	"slices"

	"github.com/credagent/credagent/testkit/usage"
)

// sample is the memory of a program at one instant.
type sample struct {
	whole usage.Memory // with all processes that it has started
	alone usage.Memory // the one process that was started
}

// measure looks at a process and all its descendants. One that ends meanwhile has no memory.
func measure(pid int) (sample, error) {
	alone, err := usage.MemoryOf(pid)
	if err != nil {
		return sample{}, err
	}
	s := sample{whole: alone, alone: alone}
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		children, err := usage.Children(queue[0])
		if err != nil {
			return sample{}, err
		}
		for _, child := range children {
			if m, err := usage.MemoryOf(child); err == nil {
				s.whole.Resident += m.Resident
				s.whole.Anonymous += m.Anonymous
			}
		}
		queue = append(queue, children...)
	}
	return s, nil
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
