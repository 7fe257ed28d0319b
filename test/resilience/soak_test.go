//go:build linux

package resilience_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/testkit/usage"
)

var soak = flag.Duration("soak", 0, "how long TestSoak runs; 0 skips it")

const (
	soakClients = 40
	soakTokens  = 25 // of each client
	soakLife    = time.Minute
	soakSamples = 30
	soakFaulty  = 0.02 // the share of token requests that meet a fault
)

// soakFaults are what the hostile server does, each for one request.
var soakFaults = []string{
	"throttle=3", "throttle=6", "throttle_date=4s", "outage", "outage=502", "refuse=temporarily_unavailable,503", "stall", "slow=1s",
	"drip=20ms", "reset", "cut", "truncate", "garbage", "empty", "huge=3000000", "body=[]", "expires_in=string", "short=50s", "redirect",
}

// sample is what the agent takes at one instant.
type sample struct {
	at                               time.Duration
	resident, heap                   float64 // MiB
	goroutines, descriptors, threads float64
	providers                        int
}

// TestSoak keeps many tokens fresh against a hostile server and watches what the agent takes.
func TestSoak(t *testing.T) {
	if *soak == 0 {
		t.Skip("takes long: make soak")
	}
	var ids []string
	for i := range soakClients {
		ids = append(ids, fmt.Sprintf("c%02d", i))
	}
	h := newHost(t, devserver.Options{TTL: soakLife}, ids...)
	sinks := h.configureSoak(t, ids)
	agent := h.start(t)
	h.ready(t, agent)
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), *soak)
	defer cancel()
	go h.beHostile(ctx, t)
	looked := h.lookOn(ctx, sinks)
	samples := h.watch(ctx, t, agent)
	cancel()
	expired, excused := h.judge(<-looked)
	t.Log("\n" + table(samples))
	requests := h.server.Requests()
	faults := 0
	for _, r := range requests {
		if r.Fault != "" {
			faults++
		}
	}
	t.Logf("%v, %d tokens: of the last %d token requests %d met a fault; %d came before a Retry-After was over; "+
		"%d reads found an expired token, and %d one whose client had met three faults in half a life",
		time.Since(began).Round(time.Second), soakClients*soakTokens, len(requests), faults, h.server.RetryAfterViolations(), expired, excused)
	if expired > 0 || h.server.RetryAfterViolations() > 0 {
		t.Error("a promise was not kept")
	}
	checkFlat(t, samples)
	h.stopsInTime(t, agent)
}

func (h *host) configureSoak(t *testing.T, ids []string) []watched {
	t.Helper()
	var clients, tokens, sinks strings.Builder
	var all []watched
	for _, id := range ids {
		clients.WriteString(h.clientLine(id, h.server.TokenURL(), "request_timeout: 3s,"))
		for i := range soakTokens {
			name := fmt.Sprintf("%s-%02d", id, i)
			fmt.Fprintf(&tokens, "  %s: { client: %s, scopes: [%s] }\n", name, id, name)
			fmt.Fprintf(&sinks, "  - { type: file, token: %s, path: %s }\n", name, h.path("sinks/"+name))
			all = append(all, watched{h.path("sinks/" + name), rawTokens})
		}
	}
	h.write(t, "credagent.yaml", h.preamble()+"clients:\n"+clients.String()+"tokens:\n"+tokens.String()+"sinks:\n"+sinks.String())
	return all
}

// beHostile lets some requests meet a fault, at random.
func (h *host) beHostile(ctx context.Context, t *testing.T) {
	seen, cancel := h.server.Subscribe()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			h.server.Clear()
			return
		case r := <-seen:
			if rand.Float64() >= soakFaulty {
				continue
			}
			fault, err := devserver.ParseFault(soakFaults[rand.IntN(len(soakFaults))] + "*1")
			if err != nil {
				t.Error(err)
				return
			}
			fault.Client = r.Client
			if err := h.server.Inject(fault); err != nil {
				t.Error(err)
			}
		}
	}
}

// lookOn reads all sinks again and again, and says at the end which held a token that had expired,
// and when.
func (h *host) lookOn(ctx context.Context, sinks []watched) <-chan []finding {
	found := make(chan []finding, 1)
	go func() {
		tick, bad := time.NewTicker(time.Millisecond), []finding(nil)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				found <- bad
				return
			case <-tick.C:
				if sink := sinks[i%len(sinks)]; sink.look(h.server.Valid) != nil {
					client, _, _ := strings.Cut(filepath.Base(sink.path), "-")
					bad = append(bad, finding{client, time.Now()})
				}
			}
		}
	}()
	return found
}

// finding is an expired token of a client.
type finding struct {
	client string
	at     time.Time
}

// judge tells the tokens that could have been refreshed in the half of their life that is left for
// it from those whose client the server did not let.
func (h *host) judge(found []finding) (expired, excused int) {
	requests := h.server.Requests()
	for _, f := range found {
		faults := 0
		for _, r := range requests {
			if ago := f.at.Sub(r.At); r.Client == f.client && r.Fault != "" && ago > 0 && ago < soakLife/2 {
				faults++
			}
		}
		if faults >= 3 {
			excused++
		} else {
			expired++
		}
	}
	return expired, excused
}

// watch takes samples until ctx ends.
func (h *host) watch(ctx context.Context, t *testing.T, agent *process) []sample {
	t.Helper()
	tick, began := time.NewTicker(*soak/(soakSamples+1)), time.Now()
	defer tick.Stop()
	var samples []sample
	for {
		select {
		case <-ctx.Done():
			return samples
		case <-tick.C:
			s := h.sample(t, agent)
			s.at = time.Since(began).Round(time.Second)
			samples = append(samples, s)
		}
	}
}

func (h *host) sample(t *testing.T, agent *process) sample {
	t.Helper()
	used, err := usage.Of(agent.PID())
	must(t, err)
	response, err := http.Get("http://" + h.listen + "/metrics")
	must(t, err)
	defer response.Body.Close()
	metrics := map[string]float64{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		metrics[name], _ = strconv.ParseFloat(value, 64)
	}
	return sample{
		resident: float64(used.Resident) / (1 << 20), heap: metrics["go_memstats_heap_inuse_bytes"] / (1 << 20),
		goroutines: metrics["go_goroutines"], descriptors: float64(used.Descriptors), threads: float64(used.Threads),
		providers: len(h.providers(t, agent)),
	}
}

func table(samples []sample) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "after\tresident MiB\theap MiB\tgoroutines\tdescriptors\tthreads\tproviders\t")
	for _, s := range samples {
		fmt.Fprintf(w, "%v\t%.1f\t%.1f\t%.0f\t%.0f\t%.0f\t%d\t\n", s.at, s.resident, s.heap, s.goroutines, s.descriptors, s.threads, s.providers)
	}
	_ = w.Flush() // to a strings.Builder
	return text.String()
}

// checkFlat compares the last third of the samples with the one before, by their medians: a leak
// grows, noise does not.
func checkFlat(t *testing.T, samples []sample) {
	t.Helper()
	third := len(samples) / 3
	if third < 3 {
		t.Fatalf("%d samples are too few", len(samples))
	}
	for name, m := range map[string]struct {
		of    func(sample) float64
		slack float64 // beyond a twentieth
	}{
		"resident MiB": {func(s sample) float64 { return s.resident }, 3},
		"goroutines":   {func(s sample) float64 { return s.goroutines }, 40},
		"descriptors":  {func(s sample) float64 { return s.descriptors }, 10},
		"threads":      {func(s sample) float64 { return s.threads }, 3},
	} {
		middle, last := median(samples[third:2*third], m.of), median(samples[2*third:], m.of)
		if last > middle*1.05+m.slack {
			t.Errorf("%s: %.1f in the middle, %.1f in the end", name, middle, last)
		}
	}
}

func median(samples []sample, of func(sample) float64) float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
