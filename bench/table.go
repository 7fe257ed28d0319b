package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// table writes the rows as Markdown, by their medians.
func table(to io.Writer, groups []group, measured results) {
	fmt.Fprintln(to, "| what | credagent | baseline | ratio | aim |")
	fmt.Fprintln(to, "| --- | ---: | ---: | ---: | --- |")
	for _, g := range groups {
		for _, r := range g.rows {
			if line, ok := r.line(g, measured); ok {
				fmt.Fprintln(to, line)
			}
		}
	}
}

// line is a row of the table; there is none where nothing was measured.
func (r row) line(g group, measured results) (string, bool) {
	credagent, baseline := measured.of(g, r.of, r.unit), measured.of(g, r.against, r.unit)
	if len(credagent) == 0 || r.against != "" && len(baseline) == 0 {
		return "", false
	}
	c, b, times := median(credagent), 0.0, ""
	other := ""
	if r.against != "" {
		b = median(baseline)
		other = show(b, r.unit) + " " + named(r.against)
		times = fmt.Sprintf("%.2f", median(ratios(credagent, baseline)))
	}
	reached := r.aim.text
	if r.aim.met != nil && !r.aim.met(c, b) {
		reached += ": **missed**"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", r.what, show(c, r.unit), other, times, reached), true
}

// named is the last part of a benchmark's name, without its key.
func named(name string) string {
	last := name[strings.LastIndexByte(name, '/')+1:]
	if _, by, found := strings.Cut(last, "by="); found {
		return "(" + by + ")"
	}
	return "(" + last + ")"
}

// ratios pairs what was measured in the same round.
func ratios(credagent, baseline []float64) []float64 {
	all := make([]float64, min(len(credagent), len(baseline)))
	for i := range all {
		all[i] = 1
		if baseline[i] != 0 {
			all[i] = credagent[i] / baseline[i]
		}
	}
	return all
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// show writes a value for people.
func show(value float64, unit string) string {
	measure, per, _ := strings.Cut(unit, "/")
	switch {
	case strings.HasSuffix(measure, "sec") && slices.Contains([]string{"op", "token", "request"}, per):
		return rounded(time.Duration(value * float64(time.Second)))
	case measure == "B" || strings.HasSuffix(measure, "-B"):
		return bytesOf(value)
	case value >= 100 || value == float64(int(value)):
		return fmt.Sprintf("%.0f", value)
	}
	return fmt.Sprintf("%.2f", value)
}

// rounded leaves three digits.
func rounded(d time.Duration) string {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit).String()
		}
	}
}

func bytesOf(value float64) string {
	switch {
	case value >= 1<<20:
		return fmt.Sprintf("%.1f MiB", value/(1<<20))
	case value >= 1<<10:
		return fmt.Sprintf("%.1f KiB", value/(1<<10))
	}
	return fmt.Sprintf("%.0f B", value)
}
