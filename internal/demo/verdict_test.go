package demo

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
)

const (
	oldKey = "aaaaaaaaaaaa"
	newKey = "bbbbbbbbbbbb"
)

// exemplary are the facts of a demo in which everything went as it should.
func exemplary() facts {
	start := time.Date(2026, time.May, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	return facts{
		requests: []devserver.Request{
			{At: at(0), Client: secretClient, Status: 200, Outcome: "issued"},
			{At: at(0), Client: certClient, KeyID: oldKey, Status: 200, Outcome: "issued"},
			{At: at(5), Client: certClient, Status: 429, RetryAfter: "6", Fault: "throttle=6", Outcome: "throttle"},
			{At: at(5), Client: secretClient, Status: 503, Fault: "outage=503", Outcome: "outage"},
			{At: at(11), Client: certClient, KeyID: newKey, Status: 200, Outcome: "issued"},
			{At: at(12), Client: secretClient, Status: 200, Outcome: "issued"},
		},
		reading: reading{reads: 5000, tokens: 2},
		writes:  map[string]int{rawSink: 2, jsonSink: 2, headerSink: 2, envSink: 3},
		sinks:   []sinkFact{{name: rawSink}, {name: jsonSink}, {name: headerSink}, {name: envSink}},
		rotated: newKey,
	}
}

func TestJudge(t *testing.T) {
	tests := map[string]struct {
		spoil   func(*facts)
		name    string // of the one check that is not "shown"
		outcome outcome
		detail  string
	}{
		"a request refused":      {func(f *facts) { f.requests = append(f.requests, devserver.Request{Outcome: "invalid_client"}) }, "token requests", broken, "1 refused"},
		"a file never rewritten": {func(f *facts) { f.writes[jsonSink] = 1 }, "files written", missing, "graph.json once"},
		"a file with a bad token": {func(f *facts) { f.sinks[3].err = errNotAccepted }, "files written", broken,
			"app.env 3 times, then: the server does not accept"},
		"a bad read":          {func(f *facts) { f.reading.bad, f.reading.firstBad = 1, "it is empty" }, "file read", broken, "bad reads: 1: it is empty"},
		"one token all along": {func(f *facts) { f.reading.tokens = 1 }, "file read", missing, "tokens seen: 1"},
		"no throttling":       {func(f *facts) { f.requests[2].Status = 503 }, "throttling honoured", missing, "not seen, 0 early"},
		"an early request":    {func(f *facts) { f.early = 1 }, "throttling honoured", broken, "1 early requests"},
		"back too soon": {func(f *facts) { f.requests[4].At = f.requests[2].At.Add(retryAfter - 1) }, "throttling honoured", broken,
			"asked to wait 6s, waited 6.0s"},
		"no outage":          {func(f *facts) { f.requests[3].Status = 500 }, "outage survived", missing, "not seen"},
		"the outage goes on": {func(f *facts) { f.requests = slices.Delete(f.requests, 5, 6); f.again(secretClient) }, "outage survived", missing, "not seen"},
		"one client's outage goes on": {func(f *facts) {
			f.requests = slices.Insert(f.requests, 5, devserver.Request{At: f.requests[4].At, Client: secretClient, Status: 500, Fault: "outage=500", Outcome: "outage"})
			f.requests = append(f.requests, devserver.Request{Client: certClient, Status: 503, Fault: "outage=503", Outcome: "outage"}, f.requests[4])
		}, "outage survived", missing, "client reporting had 503, outage 6.0s later"},
		"no rotation":         {func(f *facts) { f.rotated = "" }, "certificate rotated", missing, "not seen"},
		"old certificate":     {func(f *facts) { f.requests[4].KeyID = oldKey }, "certificate rotated", missing, "not seen"},
		"no second token":     {func(f *facts) { f.requests[0].Outcome, f.requests[0].Fault = "ok", "ok" }, "tokens refreshed", missing, "reports 0 times"},
		"nothing is the case": {func(*facts) {}, "", shown, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := exemplary()
			test.spoil(&f)
			for _, c := range judge(f) {
				want := shown
				if c.name == test.name {
					want = test.outcome
					if !strings.Contains(c.detail, test.detail) {
						t.Errorf("%s: detail %q, want %q in it", c.name, c.detail, test.detail)
					}
				}
				if c.outcome != want {
					t.Errorf("%s: outcome %d (%s), want %d", c.name, c.outcome, c.detail, want)
				}
			}
		})
	}
}

// again gives a client two tokens before everything else.
func (f *facts) again(client string) {
	issued := devserver.Request{Client: client, Status: 200, Outcome: "issued"}
	f.requests = append([]devserver.Request{issued, issued}, f.requests...)
}

func TestJudgeWithoutFacts(t *testing.T) {
	for _, c := range judge(facts{}) {
		if c.outcome != missing {
			t.Errorf("%s: outcome %d, want %d", c.name, c.outcome, missing)
		}
	}
}

func TestVerdict(t *testing.T) {
	good, absent, bad := check{"one", shown, ""}, check{"two", missing, ""}, check{"three", broken, ""}
	tests := map[string]struct {
		checks []check
		early  bool
		want   string // the checks that the error names; "" for none
	}{
		"everything shown":          {[]check{good}, false, ""},
		"something missing":         {[]check{good, absent}, false, "two"},
		"something broken":          {[]check{good, bad}, false, "three"},
		"several":                   {[]check{good, absent, bad}, false, "two, three"},
		"missing at an early end":   {[]check{good, absent}, true, ""},
		"broken until an early end": {[]check{absent, bad}, true, "three"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := verdict(test.checks, test.early)
			if test.want == "" {
				if err != nil {
					t.Errorf("verdict: %v, want none", err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "running the demo: it did not show: "+test.want+"\n") {
				t.Errorf("verdict: %v, want %q named", err, test.want)
			}
		})
	}
}

func TestInspectReadsAsWorkloadsDo(t *testing.T) {
	tests := map[string]struct {
		tokens  func([]byte) ([]string, error)
		content string
		want    error
	}{
		"json":                {tokensOfJSON, `{"access_token":"good","expires_on":1}`, nil},
		"json, expired":       {tokensOfJSON, `{"access_token":"bad"}`, errNotAccepted},
		"json, torn":          {tokensOfJSON, `{"access_token":"go`, errForm},
		"header":              {tokensOfHeader, "Authorization: Bearer good\n", nil},
		"header, expired":     {tokensOfHeader, "Authorization: Bearer bad\n", errNotAccepted},
		"header, torn":        {tokensOfHeader, "Authorization: Bearer good", errForm},
		"header, other":       {tokensOfHeader, "good\n", errForm},
		"env":                 {tokensOfEnv, "GRAPH_TOKEN=good\nREPORTS_TOKEN=good\n", nil},
		"env, expired":        {tokensOfEnv, "GRAPH_TOKEN=good\nREPORTS_TOKEN=bad\n", errNotAccepted},
		"env, one too few":    {tokensOfEnv, "GRAPH_TOKEN=good\n", errForm},
		"env, other variable": {tokensOfEnv, "GRAPH_TOKEN=good\nOTHER=good\n", errNotAccepted},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir() + "/sink"
			if err := replaceFile(path, []byte(test.content)); err != nil {
				t.Fatal(err)
			}
			err := inspectFile(path, test.tokens, func(token string) bool { return token == "good" })
			if !errors.Is(err, test.want) {
				t.Errorf("inspectFile: %v, want %v", err, test.want)
			}
		})
	}
}
