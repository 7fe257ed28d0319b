//go:build unix

// Package sdktest shows that unmodified Azure SDKs get their tokens from credagent: it runs the real
// program, and workloads with the SDKs for Go (azidentity) and JavaScript (@azure/identity, and
// @microsoft/agents-hosting of the Microsoft 365 Agents SDKs) that know nothing of it but environment
// variables. With -short it is skipped, as it takes most of a minute and, the first time, a module proxy and a
// package registry.
package sdktest

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

const (
	resource = "https://graph.microsoft.com"
	patience = time.Minute

	// tokenLife is so short that the SDKs, which do not keep a token in its last five minutes, ask the
	// endpoint every time; it outlasts a refresh that fails. Refreshes can be waited for.
	tokenLife = 2 * time.Minute
	refreshIn = 5 * time.Second

	rounds        = 5
	callsPerRound = 200
	callers       = 50
	none          = -1 // calls

	tolerance = 50 * time.Millisecond
)

// TestUnmodifiedSDKs has each SDK ask for its token a thousand times, by fifty callers at once: while
// there is none yet, when there is one, after a refresh, during an outage and after it. The agent
// makes the requests that it planned by itself, and not one more.
func TestUnmodifiedSDKs(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a quarter of a minute: not with -short")
	}
	t.Parallel()
	workloads := prepareWorkloads(t)
	a := startAgent(t)
	for _, w := range workloads {
		w.start(t, a.sdkEnv)
	}
	stop := a.follow()

	round(t, a, workloads, order{Credential: "managed"}) // they are told to ask again
	round(t, a, workloads, order{Credential: "managed", ClientID: "app"})
	a.seen(t, 2)
	round(t, a, workloads, order{Credential: "default"})
	if err := a.server.Inject(fault(t, "outage=503*1")); err != nil {
		t.Fatal(err)
	}
	a.seen(t, 3)
	round(t, a, workloads, order{Credential: "managed"})
	a.seen(t, 4)
	round(t, a, workloads, order{Credential: "managed"})
	wantPlanned(t, a, stop())
}

// round has every workload ask at once, and checks what they get against the sink.
func round(t *testing.T, a *agent, workloads []*workload, o order) {
	t.Helper()
	stop := a.noteHeld(t)
	answers := make([]answer, len(workloads))
	var asking sync.WaitGroup
	for i, w := range workloads {
		asking.Go(func() {
			var err error
			if answers[i], err = w.ask(o); err != nil {
				t.Errorf("%s does not answer: %v", w.name, err)
			}
		})
	}
	asking.Wait()
	tokens := stop() // it may have been refreshed meanwhile
	for i, w := range workloads {
		if err := answers[i].check(tokens); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
		if left := time.Until(time.Unix(answers[i].ExpiresOn, 0)); o.Credential != "" && left.Abs() > tokenLife {
			t.Errorf("%s is told that the token expires in %v", w.name, left)
		}
		if o.Service != "" && !answers[i].Healthy {
			t.Errorf("%s finds the auth sidecar in bad health", w.name)
		}
	}
}

// check checks that every call got one of the tokens.
func (a answer) check(tokens []string) error {
	if len(a.Errors) > 0 {
		return fmt.Errorf("%d calls failed, such as: %s", len(a.Errors), a.Errors[0])
	}
	right := 0
	for _, token := range tokens {
		right += a.Tokens[token]
	}
	if right != callsPerRound {
		return fmt.Errorf("%d of %d calls got the token in the sink", right, callsPerRound)
	}
	return nil
}

// wantPlanned checks that the server saw the agent's requests, when they were planned, and no others.
func wantPlanned(t *testing.T, a *agent, plans map[int]time.Time) {
	t.Helper()
	s, err := a.status()
	if err != nil {
		t.Fatal(err)
	}
	requests := a.server.Requests()
	if made := s.Tokens[0].Requests; len(requests) != made {
		t.Errorf("the server saw %d requests, but the agent made %d", len(requests), made)
	}
	for n, request := range requests[1:] {
		if plan, ok := plans[n+1]; !ok || request.At.Before(plan.Add(-tolerance)) {
			t.Errorf("request %d came at %v, planned was %v", n+2, request.At, plan)
		}
	}
	if early := a.server.RetryAfterViolations(); early != 0 {
		t.Errorf("%d requests came before a Retry-After was over", early)
	}
	t.Logf("the server saw %d requests", len(requests))
}
