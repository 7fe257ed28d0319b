//go:build linux

package resilience_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/devserver"
)

var (
	kills  = flag.Int("kills", 40, "how many times TestKilledAgent kills the agent, at least")
	writes = flag.Int("writes", 400, "how many sink writes TestKilledAgent waits for, at least")
)

const (
	crashTokens = 8
	crashShared = 40 // sinks that show every token
	// crashLife is a token's life. No token may be asked for more than twelve times in a minute, and a
	// kill may lose the answer each time: a shorter life could end by bad luck alone.
	crashLife  = 3 * time.Minute
	crashEvery = 5 * time.Second // between two refreshes of a token: the shortest there is
	throttled  = 20              // every so many kills, the server asks for a wait first
)

// crashSuite is one agent that is killed and started again, and what came of it.
type crashSuite struct {
	*host
	state     *store.Store
	kills     []time.Time
	written   int
	leftOvers int
}

// TestKilledAgent kills the agent with SIGKILL at random points, at once starts it again, and reads
// its sinks at full speed all along.
func TestKilledAgent(t *testing.T) {
	s := &crashSuite{host: newHost(t, devserver.Options{TTL: crashLife, RefreshIn: crashEvery})}
	sinks := s.configure(t)
	s.openState(t)
	agent := s.start(t)
	s.ready(t, agent)
	r := startReaders(t, 2, sinks, s.server.Valid)
	for (len(s.kills) < *kills || s.written < *writes) && !t.Failed() {
		s.provoke(t, agent)
		agent = s.restart(t, agent)
	}
	s.ready(t, agent)
	agent.Terminate()
	<-agent.Ended()
	r.end()
	s.examine(t, agent)
	s.checkEnd(t, sinks)
	requests, extra := s.checkRequests(t)
	t.Logf("%d kills, %d sink writes, %d temporary files left by kills and removed; %d reads, %d of them torn, missing or expired; "+
		"%d token requests, %d repeated because a kill lost the answer, %d before a Retry-After was over",
		len(s.kills), s.written, s.leftOvers, r.reads.Load(), r.bad.Load(), requests, extra, s.server.RetryAfterViolations())
}

// configure gives each token a sink of every kind, and some sinks every token.
func (s *crashSuite) configure(t *testing.T) []watched {
	t.Helper()
	var tokens, sinks, lines, variables strings.Builder
	var all []watched
	add := func(name, configured string, read func(string) ([]string, error)) {
		path := s.path("sinks/" + name)
		fmt.Fprintf(&sinks, "  - { path: %s, %s }\n", path, configured)
		all = append(all, watched{path, read})
	}
	for i := range crashTokens {
		name := fmt.Sprintf("t%02d", i)
		fmt.Fprintf(&tokens, "  %s: { client: app, scopes: [%s] }\n", name, name)
		fmt.Fprintf(&lines, `%[1]s={{ (token \"%[1]s\").AccessToken }}\n`, name)
		fmt.Fprintf(&variables, "V%s: %s, ", name, name)
		add(name+".raw", "type: file, token: "+name, rawTokens)
		add(name+".json", "type: file, format: json, mode: \"0640\", token: "+name, jsonTokens)
		add(name+".env", fmt.Sprintf("type: env, variables: { A: %[1]s, B: %[1]s }", name), lineTokens(2, ""))
		add(name+".ini", fmt.Sprintf(`type: file, format: template, template: "a={{ (token \"%s\").AccessToken }}\nend\n"`, name), lineTokens(1, "end\n"))
	}
	for i := range crashShared / 2 {
		add(fmt.Sprintf("all%d.ini", i), fmt.Sprintf("type: file, format: template, template: \"%send\\n\"", &lines), lineTokens(crashTokens, "end\n"))
		add(fmt.Sprintf("all%d.env", i), fmt.Sprintf("type: env, variables: { %s }", &variables), lineTokens(crashTokens, ""))
	}
	s.write(t, "credagent.yaml", s.preamble()+"clients:\n"+s.clientLine("app", s.server.TokenURL(), "")+"tokens:\n"+tokens.String()+"sinks:\n"+sinks.String())
	return all
}

// openState opens the state to look into it. It is opened before the agent starts, as opening
// removes temporary files.
func (s *crashSuite) openState(t *testing.T) {
	t.Helper()
	opened, err := store.Open(s.path("state"), s.path("state-key"))
	must(t, err)
	s.state = opened
}

// provoke lets the agent run to a random point.
func (s *crashSuite) provoke(t *testing.T, agent *process) {
	t.Helper()
	if len(s.kills)%throttled == throttled/2 {
		s.throttle(t)
		return
	}
	before := time.Duration(0)
	switch rand.IntN(3) {
	case 0: // anywhere, also while it starts
		before = time.Duration(rand.Int64N(int64(1500 * time.Millisecond)))
	case 1: // near a request and what is saved before and after it
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_ = s.server.Wait(ctx, len(s.server.Requests())+1)
		cancel()
		before = time.Duration(rand.Int64N(int64(20 * time.Millisecond)))
	default: // near the writes of a refresh
		s.awaitWrite(agent)
		before = time.Duration(rand.Int64N(int64(20 * time.Millisecond)))
	}
	<-time.After(before)
}

// awaitWrite waits for the agent to write the next sink, for a second.
func (s *crashSuite) awaitWrite(agent *process) {
	deadline, tick := time.After(time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for before := agent.Log.Count(`"sink written"`); agent.Log.Count(`"sink written"`) == before; {
		select {
		case <-tick.C:
		case <-deadline:
			return
		}
	}
}

// throttle has the server ask for a wait and returns as soon as the agent has noted that. A kill
// that comes before the note loses the server's answer, which no program could obey.
func (s *crashSuite) throttle(t *testing.T) {
	t.Helper()
	must(t, s.server.Inject(devserver.Fault{Kind: devserver.Throttle, RetryAfter: "6", Count: 1}))
	until(t, "the Retry-After is in the state", func() bool {
		records, _ := s.state.LoadAll()
		for _, gate := range store.Gates(records) {
			if gate.BlockedUntil.After(time.Now()) {
				return true
			}
		}
		return false
	})
}

// restart kills the agent and starts it again.
func (s *crashSuite) restart(t *testing.T, agent *process) *process {
	t.Helper()
	at := time.Now()
	agent.Kill()
	s.kills = append(s.kills, at)
	s.leftOvers += len(temporaries(t, s.path("sinks"))) + len(temporaries(t, s.path("state")))
	s.examine(t, agent)
	return s.start(t)
}

// examine reads the log of an ended agent.
func (s *crashSuite) examine(t *testing.T, agent *process) {
	t.Helper()
	s.written += agent.Log.Count(`"sink written"`)
	for _, message := range []string{"state cannot be used", "ignoring saved state", "saving state failed", "writing sink failed", "panic", "bug"} {
		if n := agent.Log.Count(message); n > 0 {
			t.Errorf("%d lines of the log say %q:\n%s", n, message, agent.Log.Last(10))
		}
	}
}

// checkEnd checks what is left after a last clean stop.
func (s *crashSuite) checkEnd(t *testing.T, sinks []watched) {
	t.Helper()
	if left := append(temporaries(t, s.path("sinks")), temporaries(t, s.path("state"))...); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
	if running := s.processes(t); len(running) > 0 {
		t.Errorf("processes %v are left", running)
	}
	for _, sink := range sinks {
		if err := sink.look(s.server.Valid); err != nil {
			t.Errorf("%s after the last stop: %v", sink.path, err)
		}
	}
	records, damaged := s.state.LoadAll()
	if len(records) != crashTokens || len(damaged) > 0 {
		t.Errorf("the state has %d records, want %d; %v", len(records), crashTokens, damaged)
	}
}

// checkRequests checks that the server saw no request but those of the schedule and, after a kill
// that lost an answer, one more.
func (s *crashSuite) checkRequests(t *testing.T) (requests, extra int) {
	t.Helper()
	if n := s.server.RetryAfterViolations(); n > 0 {
		t.Errorf("%d requests came before a Retry-After was over", n)
	}
	byScope := map[string][]time.Time{}
	for _, r := range s.server.Requests() {
		requests++
		if r.Status == http.StatusOK {
			byScope[r.Scope] = append(byScope[r.Scope], r.At)
		}
	}
	for scope, at := range byScope {
		for i := 1; i < len(at); i++ {
			// A request is planned by when it was sent, and may arrive later than that.
			if at[i].Sub(at[i-1]) >= crashEvery-time.Second {
				continue
			}
			extra++
			if !s.killedBetween(at[i-1], at[i]) {
				t.Errorf("token %s was asked for twice within %v without a kill between", scope, at[i].Sub(at[i-1]))
			}
		}
		for i := 12; i < len(at); i++ {
			if span := at[i].Sub(at[i-12]); span < time.Minute-time.Second {
				t.Errorf("13 requests for token %s within %v", scope, span)
			}
		}
	}
	if extra > len(s.kills) {
		t.Errorf("%d requests beyond the schedule after %d kills: a kill can lose one answer", extra, len(s.kills))
	}
	return requests, extra
}

// killedBetween reports whether a kill lost the answer to a request. The provider's process outlives
// the agent by a moment, so that the request may arrive after the kill.
func (s *crashSuite) killedBetween(request, next time.Time) bool {
	return slices.ContainsFunc(s.kills, func(at time.Time) bool { return at.After(request.Add(-time.Second)) && at.Before(next) })
}
