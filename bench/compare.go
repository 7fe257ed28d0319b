package main

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"
)

const (
	// small is a change that nobody need hear of.
	small = 1.05
	// sure is how improbable it has to be that only chance made a difference.
	sure = 0.05
)

// worse says of each row that has become worse since the recorded run by more than noise, by how much.
// What has a baseline is compared by its ratio, which is the same on other machines; what has none is
// compared by itself, unless it is a time.
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

// sample is what of a row can be compared between machines.
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

// gains tells that more is better.
func (r row) gains() bool { return strings.HasSuffix(r.unit, "/s") }

func inverted(values []float64) []float64 {
	all := make([]float64, len(values))
	for i, v := range values {
		all[i] = 1 / v
	}
	return all
}

// beyondNoise asks the Mann-Whitney test where there are rounds enough for it, and else whether the
// least of now is more than the most of before.
func beyondNoise(before, now []float64) bool {
	if len(before) < 4 || len(now) < 4 {
		return slices.Min(now) > small*slices.Max(before)
	}
	a, b := benchmath.NewSample(slices.Clone(before), &benchmath.DefaultThresholds), benchmath.NewSample(slices.Clone(now), &benchmath.DefaultThresholds)
	return benchmath.AssumeNothing.Compare(a, b).P < sure
}
