package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/testkit/leaktest"
	"github.com/credagent/credagent/testkit/usage"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Main(m)) }

// TestComparison has the programs do a small piece of the work, and checks of each that it did it, and
// of credagent what it promises.
func TestComparison(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute: not with -short")
	}
	programs := built(t)
	s := shortSize()
	results, err := compare(t.Context(), programs, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table(results, s))
	for _, r := range results {
		if r.kept.requests < s.tokens || r.kept.looks == 0 || r.kept.cpu <= 0 || r.held.valid != s.tokens || r.empty.valid != 0 {
			t.Errorf("%s did not do the work, or nobody looked: %+v, with tokens %+v, without %+v", r.name, r.kept, r.held, r.empty)
		}
		for _, m := range r.kept.memory {
			if m.alone.Anonymous <= 0 || m.whole.Anonymous < m.alone.Anonymous || m.alone.Resident <= m.alone.Anonymous {
				t.Errorf("%s: its memory is %+v", r.name, m)
			}
		}
	}
	agent := results[0]
	if agent.kept.expired != 0 {
		t.Errorf("%d of %d looks found an expired token of credagent's", agent.kept.expired, agent.kept.looks)
	}
	if agent.held.early != 0 || agent.empty.early != 0 {
		t.Errorf("credagent sent %d requests before it might while it held tokens, and %d while it held none", agent.held.early, agent.empty.early)
	}
}

// TestExpiredTokensAreSeen: a loop that asks too seldom leaves expired tokens, and is found out.
func TestExpiredTokensAreSeen(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds programs: not with -short")
	}
	const tokens = 2
	loop := built(t)[1]
	k, err := keep(t.Context(), loop, size{tokens: tokens, life: 2 * time.Second, span: 6 * time.Second, poll: 4 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if len(k.tokens) < tokens || k.expired < len(k.tokens) || k.expired == k.looks {
		t.Errorf("%d of %d looks found an expired token, %d different ones", k.expired, k.looks, len(k.tokens))
	}
}

// TestProgramThatFailsIsSaid: a comparison with a program that does not run is none.
func TestProgramThatFailsIsSaid(t *testing.T) {
	p := program{name: "a program", binary: "/bin/sh", args: func(*stage) ([]string, error) {
		return []string{"-c", "echo out of order >&2"}, nil
	}}
	_, err := compare(t.Context(), []program{p}, shortSize())
	if err == nil || !strings.Contains(err.Error(), "a program: it has ended by itself; its log ends with\nout of order") {
		t.Errorf("comparing: %v", err)
	}
}

func TestMeasureCountsWhatAProcessHasStarted(t *testing.T) {
	child := exec.Command("cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	before, err := measure(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = child.Wait()
	}()
	with, err := measure(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.whole != before.alone || with.whole.Resident <= with.alone.Resident {
		t.Errorf("without a child %+v, with one %+v", before, with)
	}
	if _, err := measure(1 << 30); err == nil {
		t.Error("a process that is not there was measured")
	}
}

func TestTable(t *testing.T) {
	results := []result{{
		name:  "one",
		kept:  kept{requests: 7, looks: 400, expired: 3, tokens: map[string]bool{"a": true}, cpu: 1234 * time.Millisecond, memory: []sample{{whole: usage.Memory{Resident: 9e6, Anonymous: 4e6}, alone: usage.Memory{Resident: 8e6, Anonymous: 3e6}}}},
		held:  throttled{requests: 5},
		empty: throttled{requests: 6},
	}, {name: "two", kept: kept{memory: make([]sample, 1)}}}
	const want = `| | one | two |
| --- | ---: | ---: |
| token requests to keep 100 tokens of 1m for 5m | 7 | 0 |
| looks at a file that found an expired token | 3 of 400 | 0 of 0 |
| different tokens found expired | 1 | 0 |
| processor time | 1.23 s | 0.00 s |
| anonymous memory, median (peak) | 4.0 MB (4.0) | 0.0 MB (0.0) |
| the same, without credagent's provider | 3.0 MB (3.0) | 0.0 MB (0.0) |
| resident memory, median (peak) | 9.0 MB (9.0) | 0.0 MB (0.0) |
| the same, without credagent's provider | 8.0 MB (8.0) | 0.0 MB (0.0) |
`
	if got := table(results, fullSize()); !strings.HasPrefix(got, want) {
		t.Errorf("the table is\n%s", got)
	}
}

func TestSpread(t *testing.T) {
	var samples []sample
	for _, n := range []int{5, 1, 9} {
		samples = append(samples, sample{whole: usage.Memory{Resident: n}})
	}
	if median, peak := spread(samples, func(s sample) int { return s.whole.Resident }); median != 5 || peak != 9 {
		t.Errorf("median %d, peak %d", median, peak)
	}
}

func TestCheck(t *testing.T) {
	for name, change := range map[string]func(*size){
		"no tokens":       func(s *size) { s.tokens = 0 },
		"a token of half": func(s *size) { s.life = time.Second / 2 },
		"no time":         func(s *size) { s.span = 0 },
		"no pause":        func(s *size) { s.poll = 0 },
		"a wait too long": func(s *size) { s.throttle = retryAfter + 1 },
	} {
		s := fullSize()
		change(&s)
		if s.check() == nil {
			t.Errorf("%s: %+v passes", name, s)
		}
	}
	for _, s := range []size{fullSize(), shortSize()} {
		if err := s.check(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func built(t *testing.T) []program {
	t.Helper()
	programs, err := build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return programs
}
