package main

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"
)

const (
	// small is a change that is not reported.
	small = 1.05
	// sure is the significance level: the probability that a difference is only chance.
	sure = 0.05
)

// worse reports each row that has become worse since the recorded run by more than noise, and by how much. A row with
// a baseline is compared by its ratio, which is the same on other machines; a row without one is compared directly,
// unless it is a time.
func worse(groups []group, recorded, measured results) []string {
	var all []string
	for _, g := range groups {
		for _, r := range g.rows {
			before, now := r.sample(g, recorded), r.sample(g, measured)
			if len(before) == 0 || len(now) == 0 {
				continue
			}
			if r.gains() {
				before, now = inverted(before), inverted(now)
			}
			if factor := median(now) / median(before); factor > small && beyondNoise(before, now) {
				all = append(all, fmt.Sprintf("%s: %.2f times what it was", r.what, factor))
			}
		}
	}
	return all
}

// sample returns the part of a row that can be compared between machines.
func (r row) sample(g group, measured results) []float64 {
	credagent := measured.of(g, r.of, r.unit)
	switch {
	case r.against != "":
		return ratios(credagent, measured.of(g, r.against, r.unit))
	case strings.Contains(r.unit, "sec"):
		return nil
	}
	return credagent
}

// gains reports whether more is better.
func (r row) gains() bool { return strings.HasSuffix(r.unit, "/s") }

func inverted(values []float64) []float64 {
	all := make([]float64, len(values))
	for i, v := range values {
		all[i] = 1 / v
	}
	return all
}

// beyondNoise uses the Mann-Whitney test if there are enough rounds, and otherwise checks whether the new minimum
// exceeds the old maximum.
func beyondNoise(before, now []float64) bool {
	if len(before) < 4 || len(now) < 4 {
		return slices.Min(now) > small*slices.Max(before)
	}
	a, b := benchmath.NewSample(slices.Clone(before), &benchmath.DefaultThresholds), benchmath.NewSample(slices.Clone(now), &benchmath.DefaultThresholds)
	return benchmath.AssumeNothing.Compare(a, b).P < sure
}
