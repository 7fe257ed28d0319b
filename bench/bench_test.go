package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// someone is a plan of two benchmarks.
var someone = []group{
	{pkg: "some", benchmark: "Write", rows: []row{
		{"a write", "by=credagent", "by=syscalls", "sec/op", ratio(1.1)},
		{"its memory", "by=credagent", "", "B/op", below(100, "B/op")},
	}},
	{pkg: "some", benchmark: "Scale", rows: []row{
		{"the rate", "n=10/by=credagent", "n=10/by=bare", "tokens/s", rate(0.7)},
		{"what nobody measured", "n=10/by=nobody", "", "B/op", aim{}},
	}},
}

func measuredFrom(t *testing.T, text string) results {
	t.Helper()
	r, err := read(strings.NewReader(text), "test")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const rounds = `pkg: some
BenchmarkWrite/by=credagent-2	100	12000 ns/op	90 B/op	3 allocs/op
BenchmarkWrite/by=syscalls-2	100	10000 ns/op	0 B/op	0 allocs/op
BenchmarkScale/n=10/by=credagent-2	1	80.0 tokens/s	1 ns/op
BenchmarkScale/n=10/by=bare-2	1	100.0 tokens/s	1 ns/op
`

func TestTable(t *testing.T) {
	var text strings.Builder
	table(&text, someone, measuredFrom(t, rounds))
	want := `| what | credagent | baseline | ratio | aim |
| --- | ---: | ---: | ---: | --- |
| a write | 12µs | 10µs (syscalls) | 1.20 | at most 1.1x: **missed** |
| its memory | 90 B |  |  | at most 100 B |
| the rate | 80 | 100 (bare) | 0.80 | at least 0.7x |
`
	if text.String() != want {
		t.Errorf("the table is\n%swant\n%s", text.String(), want)
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	if got := median(ratios([]float64{10, 200, 30}, []float64{10, 100, 10})); got != 2 {
		t.Errorf("the median ratio is %v, want 2", got)
	}
}

func TestWorse(t *testing.T) {
	repeated := func(text string, changes ...string) string {
		all := ""
		for range 5 {
			all += text
		}
		return strings.NewReplacer(changes...).Replace(all)
	}
	for name, test := range map[string]struct {
		now  string
		want []string
	}{
		"the same":                 {repeated(rounds), nil},
		"another machine":          {repeated(rounds, "12000", "24000", "10000", "20000"), nil},
		"a little":                 {repeated(rounds, "12000", "12300"), nil},
		"slower":                   {repeated(rounds, "12000", "15000"), []string{"a write: 1.25 times what it was"}},
		"faster":                   {repeated(rounds, "12000", "9000"), nil},
		"larger, with no baseline": {repeated(rounds, "90 B", "180 B"), []string{"its memory: 2.00 times what it was"}},
		"a lower rate":             {repeated(rounds, "80.0", "40.0"), []string{"the rate: 2.00 times what it was"}},
		"a higher rate":            {repeated(rounds, "80.0", "90.0"), nil},
		"slower, in one round of many": {
			repeated(rounds) + repeated(rounds) + strings.Replace(rounds, "12000", "90000", 1), nil,
		},
		"few rounds, and slower": {
			strings.Replace(rounds, "12000", "15000", 1), []string{"a write: 1.25 times what it was"},
		},
		"a new benchmark": {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := worse(someone, measuredFrom(t, repeated(rounds)), measuredFrom(t, test.now))
			if !slices.Equal(got, test.want) {
				t.Errorf("worse: %q, want %q", got, test.want)
			}
		})
	}
}

func TestShow(t *testing.T) {
	for _, test := range []struct {
		value float64
		unit  string
		want  string
	}{
		{0.0148712, "sec/op", "14.9ms"}, {1.5e-6, "sec/op", "1.5µs"}, {2.4e-3, "cpu-sec/token", "2.4ms"}, {9.1e-5, "cpu-sec/request", "91µs"},
		{0.92, "cpu-sec/day", "0.92"}, {18817186, "B/program", "17.9 MiB"}, {3911680, "anonymous-B", "3.7 MiB"},
		{7_000, "B/token", "6.8 KiB"}, {90, "B/op", "90 B"}, {10, "switches/min", "10"}, {123.4, "tokens/s", "123"}, {0.5, "goroutines/token", "0.50"},
	} {
		if got := show(test.value, test.unit); got != test.want {
			t.Errorf("%v %s is shown as %s, want %s", test.value, test.unit, got, test.want)
		}
	}
	if !more(25*time.Millisecond).met(0.030, 0.010) || more(25*time.Millisecond).met(0.040, 0.010) {
		t.Error("a difference is judged wrongly")
	}
}

func TestARecordReplacesWhatWasMeasuredAgain(t *testing.T) {
	if kept := string(without([]byte(rounds), someone[:1])); strings.Contains(kept, "Write") || !strings.Contains(kept, "Scale") {
		t.Errorf("kept:\n%s", kept)
	}
	if some := chosen(someone, regexp.MustCompile("^Sca")); len(some) != 1 || some[0].benchmark != "Scale" {
		t.Errorf("chosen: %v", some)
	}
}

// TestTheDocumentShowsTheRecord holds the figures that people read to those that are compared with.
func TestTheDocumentShowsTheRecord(t *testing.T) {
	recorded, err := readFile("recorded.txt")
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile("../" + documentName)
	if err != nil {
		t.Fatal(err)
	}
	if shown, err := showIn(string(document), recorded); err != nil || shown != string(document) {
		t.Errorf("the document shows something else than the record, %v: run make bench-record", err)
	}
	for _, g := range plan {
		for _, r := range g.rows {
			if _, ok := r.line(g, recorded); !ok {
				t.Errorf("nothing is recorded of %q: run make bench-record BENCH=%s", r.what, g.benchmark)
			}
		}
	}
}
