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
	{pkg: "cmd/credagent", benchmark: "Clients", benchtime: "1x", rounds: 3, rows: []row{
		{"200 clients of one server, due at once: anonymous memory of the agent and its providers", "clients=200/by=credagent", "", "anonymous-B", below(30*mebi, "B")},
		{"their proportional share of all memory, with the mapped binary (PSS)", "clients=200/by=credagent", "", "proportional-B", aim{}},
		{"the providers' processes", "clients=200/by=credagent", "", "providers", below(1, "providers")},
	}},
	{pkg: "cmd/credagent", benchmark: "Size", benchtime: "1x", rounds: 1, rows: []row{
		{"the stripped program", "by=credagent", "by=x-oauth2", "B/program", below(18*mebi, "B")},
		{"modules linked into it", "by=credagent", "by=x-oauth2", "modules/program", aim{}},
	}},
	{pkg: "cmd/credagent", benchmark: "Scale", benchtime: "1x", rounds: 3, rows: []row{
		{"1,000 tokens of ten clients, from the start to all on disk, at the pace that credagent keeps", "credential=certcred/tokens=1000/by=credagent", "credential=certcred/tokens=1000/by=bare", "tokens/s", rate(0.7)},
		{"processor time for each, with all providers; the baseline as fast as it can", "credential=certcred/tokens=1000/by=credagent", "credential=certcred/tokens=1000/by=bare", "cpu-sec/token", ratio(1.3)},
		{"the same, with the baseline at the same pace", "credential=certcred/tokens=1000/by=credagent", "credential=certcred/tokens=1000/by=bare", "paced-cpu-sec/token", ratio(1.3)},
		{"anonymous memory for each, no provider counted", "credential=certcred/tokens=1000/by=credagent", "", "B/token", below(8<<10, "B/token")},
		{"goroutines for each", "credential=certcred/tokens=1000/by=credagent", "", "goroutines/token", below(1, "goroutines/token")},
	}},
	{pkg: "cmd/credagent", benchmark: "Scale/credential=certcred/tokens=10000", benchtime: "1x", rounds: 1, args: []string{"-scale=10000"}, rows: []row{
		{"10,000 tokens of ten clients, from the start to all on disk", "by=credagent", "by=bare", "tokens/s", rate(0.7)},
		{"processor time for each, with all providers; the baseline at the same pace", "by=credagent", "by=bare", "paced-cpu-sec/token", ratio(1.3)},
		{"anonymous memory for each, no provider counted", "by=credagent", "", "B/token", below(8<<10, "B/token")},
	}},
	{pkg: "agent/gate", benchmark: "Gate", benchtime: "20000x", rows: []row{
		{"the next request of a client, of one token that waits", "waiting=1/by=credagent", "waiting=1/by=heap", "sec/op", aim{}},
		{"of 10,000", "waiting=10000/by=credagent", "waiting=10000/by=heap", "sec/op", ratio(3)},
	}},
	{pkg: "agent/api", benchmark: "Scrape", benchtime: "10x", rows: []row{
		{"a scrape of 10,000 tokens' metrics", "tokens=10000/by=credagent", "tokens=10000/by=bare", "sec/op", ratio(1)},
		{"its memory", "tokens=10000/by=credagent", "tokens=10000/by=bare", "B/op", ratio(1)},
	}},
	{pkg: "agent/api", benchmark: "Status", benchtime: "10x", rows: []row{
		{"/v1/status of 10,000 tokens", "tokens=10000/by=credagent", "tokens=10000/by=json", "sec/op", aim{}},
	}},
	{pkg: "agent/api", benchmark: "Token", benchtime: "50x", rows: []row{
		{"a token over the socket", "tokens=1000/by=credagent", "tokens=1000/by=bare", "cpu-sec/request", aim{}},
	}},
	{pkg: "agent/api", benchmark: "Identity", benchtime: "50x", rows: []row{
		{"a token of the identity endpoint", "tokens=1000/by=credagent", "tokens=1000/by=bare", "cpu-sec/request", aim{}},
	}},
	{pkg: "agent/config", benchmark: "Parse", benchtime: "3x", rows: []row{
		{"reading the configuration of 10,000 tokens", "tokens=10000/by=credagent", "tokens=10000/by=yaml", "sec/op", aim{}},
	}},
	{pkg: "sink", benchmark: "Write", benchtime: "1000x", rows: []row{
		{"a write of a sink", "by=credagent", "by=syscalls", "sec/op", ratio(1.1)},
	}},
	{pkg: "sink", benchmark: "WriteInMemory", benchtime: "3000x", rows: []row{
		{"on a tmpfs: processor time", "by=credagent", "by=syscalls", "cpu-sec/op", ratio(1.1)},
	}},
}
