package main

import (
	"bufio"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/testkit/usage"
)

const (
	// idleAfter is when a program is idle: what its start leaves to be done is over, a provider has
	// ended, and the files were looked at for the first time.
	idleAfter = 30 * time.Second
	// idleFor is how long an idle program is looked at.
	idleFor = time.Minute
)

// BenchmarkIdle measures an agent with one token and nothing to do, its provider ended, beside the
// smallest x/oauth2 program, asleep until its token wants to be refreshed. They are looked at together.
func BenchmarkIdle(b *testing.B) {
	p := newPair(b, 0)
	sides := []*idler{
		{by: "credagent", cmd: exec.CommandContext(b.Context(), p.credagent, "run", "-c", p.config)},
		{by: "x-oauth2", cmd: exec.CommandContext(b.Context(), p.baseline, p.server.TokenURL(), p.secret, p.sink+".other", "keep")},
	}
	for _, side := range sides {
		defer side.start(b)()
	}
	<-time.After(idleAfter)
	for _, side := range sides {
		side.before = side.look(b)
	}
	<-time.After(idleFor)
	for _, side := range sides {
		side.after = side.look(b)
	}
	goroutines := metricOf(b, p.listen, "go_goroutines")
	for _, side := range sides {
		b.Run("by="+side.by, func(b *testing.B) {
			for b.Loop() { // for the sake of what calls it: all is measured already
			}
			side.report(b)
			if side.by == "credagent" {
				b.ReportMetric(goroutines, "goroutines")
			}
		})
	}
}

// idler is a program with nothing to do.
type idler struct {
	by            string
	cmd           *exec.Cmd
	before, after usage.Usage
}

func (i *idler) start(b *testing.B) (stop func()) {
	b.Helper()
	if err := i.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return func() {
		_ = i.cmd.Process.Signal(syscall.SIGTERM)
		_ = i.cmd.Wait()
	}
}

func (i *idler) look(b *testing.B) usage.Usage {
	b.Helper()
	children, err := usage.Children(i.cmd.Process.Pid)
	if err != nil || len(children) > 0 {
		b.Fatalf("%s is not idle: children %d, %v", i.by, children, err)
	}
	seen, err := usage.Of(i.cmd.Process.Pid)
	if err != nil {
		b.Fatal(err)
	}
	return seen
}

func (i *idler) report(b *testing.B) {
	b.ReportMetric(float64(i.after.Anonymous), "anonymous-B")
	b.ReportMetric(float64(i.after.Resident), "resident-B")
	b.ReportMetric(float64(i.after.Switches-i.before.Switches)/idleFor.Minutes(), "switches/min")
	b.ReportMetric((i.after.CPU-i.before.CPU).Seconds()*(24*time.Hour).Seconds()/idleFor.Seconds(), "cpu-s/day")
	b.ReportMetric(float64(i.after.Descriptors), "descriptors")
	b.ReportMetric(float64(i.after.Threads), "threads")
}

// metricOf asks a running agent for a metric that has no labels.
func metricOf(b *testing.B, listen, name string) float64 {
	b.Helper()
	response, err := http.Get("http://" + listen + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), name+" "); found {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				b.Fatal(err)
			}
			return value
		}
	}
	b.Fatalf("the agent has no metric %s", name)
	return 0
}
