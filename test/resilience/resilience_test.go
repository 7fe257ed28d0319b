//go:build linux

// Package resilience_test does to the real program what happens to programs: it is killed while it
// writes, its disk fills up, its server misbehaves, it is told to stop in the worst moment. What
// workloads read meanwhile, what the log says and how it recovers is what is tested.
//
// The program is built once, as users build it, and every process of it that a test leaves behind
// is an error. One caveat: some faults need root, and a test that cannot make its fault is skipped
// and says so. docs/resilience.md tells which test shows what.
package resilience_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/credagent/credagent/testkit/agentprocess"
	"github.com/credagent/credagent/testkit/leaktest"
)

const (
	// patience bounds every wait for something that a test expects.
	patience = time.Minute
	// canary is the client secret.
	canary = "canary-secret-71c4e9"
)

// program is the built binary. It is set before any test runs and not changed after.
var program string

func TestMain(m *testing.M) {
	if role := os.Getenv(writerRole); role != "" {
		os.Exit(writeOnce(role))
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil { // they wait more than they work
		panic(err)
	}
	os.Exit(agentprocess.Main(&program, func() int { return leaktest.Main(m) }))
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting and control groups need root: what this test shows is NOT shown here")
	}
}

// until waits for something to be so, but not for ever.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
