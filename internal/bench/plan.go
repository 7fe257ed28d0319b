package main

import (
	"fmt"
	"time"
)

// group is benchmarks that are run together, in the test of one package.
type group struct {
	pkg       string // from the root of the checkout
	benchmark string // of the top level, without "Benchmark"
	benchtime string // as go test has it
	rounds    int    // how often it is run, at most; 0 for as often as the others
	args      []string
	rows      []row
}

// row is one line of the table: a measurement of credagent beside one of something else.
type row struct {
	what    string
	of      string // what is measured, below the group's benchmark: "delay=0s/by=credagent"
	against string // the baseline; "" where there is none
	unit    string // as package benchunit has it
	aim     aim
}

// aim is what a row is to reach; the zero aim is none.
type aim struct {
	text string
	met  func(credagent, baseline float64) bool
}

// ratio is an aim of so many times the baseline at most.
func ratio(most float64) aim {
	return aim{fmt.Sprintf("at most %.4gx", most), func(c, b float64) bool { return c <= most*b }}
}

// rate is an aim of so many times the baseline at least, for what is the better the more it is.
func rate(least float64) aim {
	return aim{fmt.Sprintf("at least %.4gx", least), func(c, b float64) bool { return c >= least*b }}
}

// more is an aim of so much more time than the baseline at most.
func more(most time.Duration) aim {
	return aim{fmt.Sprintf("at most %v more", most), func(c, b float64) bool { return c-b <= most.Seconds() }}
}

// below is an aim that asks for no baseline.
func below(most float64, unit string) aim {
	return aim{"at most " + show(most, unit), func(c, _ float64) bool { return c <= most }}
}

const mebi = 1 << 20

// plan is what is compared, in the order of the table.
var plan = []group{
	{pkg: "cmd/credagent", benchmark: "Start", benchtime: "20x", rows: []row{
		{"start to the first token on disk and the end of the process; the server answers at once", "delay=0s/by=credagent", "delay=0s/by=x-oauth2", "sec/op", more(25 * time.Millisecond)},
		{"the same; the server takes 100 ms", "delay=100ms/by=credagent", "delay=100ms/by=x-oauth2", "sec/op", ratio(1.3)},
	}},
	{pkg: "agent/provider", benchmark: "Start", benchtime: "50x", rows: []row{
		{"a provider's process, from nothing to its first answer", "by=credagent", "by=AutoMTLS", "sec/op", aim{}},
	}},
	{pkg: "cmd/credagent", benchmark: "Idle", benchtime: "1x", rounds: 3, rows: []row{
		{"idle, one token, no provider running: anonymous memory", "by=credagent", "by=x-oauth2", "anonymous-B", below(6*mebi, "B")},
		{"resident memory, with the mapped binary", "by=credagent", "by=x-oauth2", "resident-B", below(22*mebi, "B")},
		{"thread wake-ups in a minute", "by=credagent", "by=x-oauth2", "switches/min", below(10, "switches/min")},
		{"processor seconds in a day", "by=credagent", "by=x-oauth2", "cpu-s/day", aim{}},
		{"descriptors", "by=credagent", "by=x-oauth2", "descriptors", aim{}},
		{"threads", "by=credagent", "by=x-oauth2", "threads", aim{}},
	}},
	{pkg: "cmd/credagent", benchmark: "Size", benchtime: "1x", rounds: 1, rows: []row{
		{"the stripped program", "by=credagent", "by=x-oauth2", "B/program", below(18*mebi, "B")},
		{"modules linked into it", "by=credagent", "by=x-oauth2", "modules/program", aim{}},
	}},
}
