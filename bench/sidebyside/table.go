package main

import (
	"fmt"
	"strings"
	"time"
)

// table is the comparison in Markdown, a column for each program.
func table(results []result, s size) string {
	rows := []struct {
		what string
		cell func(result) string
	}{
		{fmt.Sprintf("token requests to keep %d tokens of %s for %s", s.tokens, brief(s.life), brief(s.span)), func(r result) string { return fmt.Sprint(r.kept.requests) }},
		{"looks at a file that found an expired token", func(r result) string { return fmt.Sprintf("%d of %d", r.kept.expired, r.kept.looks) }},
		{"different tokens found expired", func(r result) string { return fmt.Sprint(len(r.kept.tokens)) }},
		{"processor time", func(r result) string { return fmt.Sprintf("%.2f s", r.kept.cpu.Seconds()) }},
		{"anonymous memory, median (peak)", memoryCell(func(s sample) int { return s.whole.Anonymous })},
		{"the same, without credagent's provider", memoryCell(func(s sample) int { return s.alone.Anonymous })},
		{"resident memory, median (peak)", memoryCell(func(s sample) int { return s.whole.Resident })},
		{"the same, without credagent's provider", memoryCell(func(s sample) int { return s.alone.Resident })},
		{fmt.Sprintf("token requests within %s of a 429 with `Retry-After: %.0f`, holding good tokens that are due", brief(s.throttle), retryAfter.Seconds()), func(r result) string { return fmt.Sprint(r.held.requests) }},
		{"the same, holding no token yet", func(r result) string { return fmt.Sprint(r.empty.requests) }},
	}
	var text strings.Builder
	text.WriteString("| |")
	for _, r := range results {
		text.WriteString(" " + r.name + " |")
	}
	text.WriteString("\n| --- |" + strings.Repeat(" ---: |", len(results)) + "\n")
	for _, row := range rows {
		text.WriteString("| " + row.what + " |")
		for _, r := range results {
			text.WriteString(" " + row.cell(r) + " |")
		}
		text.WriteString("\n")
	}
	return text.String()
}

func memoryCell(of func(sample) int) func(result) string {
	return func(r result) string {
		median, peak := spread(r.kept.memory, of)
		return fmt.Sprintf("%.1f MB (%.1f)", megabytes(median), megabytes(peak))
	}
}

func megabytes(bytes int) float64 { return float64(bytes) / 1e6 }

// brief is a duration without the units that are zero: 5m, not 5m0s.
func brief(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
