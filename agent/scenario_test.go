package agent

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
)

var (
	scenarios = flag.Int("scenarios", 10_000, "how many random histories TestScenarios plays")
	seed      = flag.Uint64("seed", 0, "play only the history of this seed")
)

// TestScenarios plays random histories of answers, in virtual time, against the whole agent but
// for providers and disks, and checks the promises at every request. A failure names its seed;
// `go test ./agent -run TestScenarios -seed N` plays it again.
func TestScenarios(t *testing.T) {
	if *seed != 0 {
		play(t, *seed, &tally{})
		return
	}
	total := &tally{}
	t.Run("histories", func(t *testing.T) {
		const parts = 8
		for part := range uint64(parts) {
			t.Run(strconv.FormatUint(part, 10), func(t *testing.T) {
				t.Parallel()
				for s := part + 1; s <= uint64(*scenarios); s += parts {
					play(t, s, total)
					if t.Failed() {
						return
					}
				}
			})
		}
	})
	t.Logf("%d histories, %d token requests: %d granted, %d throttled, %d other failures; %.0f simulated hours; %d sink writes",
		total.histories, total.requests, total.granted, total.throttled, total.failed, total.time.Hours(), total.writes)
	if total.histories != *scenarios || total.granted == 0 || total.throttled == 0 || total.failed == 0 {
		t.Error("the histories did not cover what they should")
	}
}

// tally counts what the histories covered.
type tally struct {
	mu                                                      sync.Mutex
	histories, requests, granted, throttled, failed, writes int
	time                                                    time.Duration
}

// history is one random server, watching the agent.
type history struct {
	t    *testing.T
	seed uint64

	mu       sync.Mutex
	random   *rand.Rand // guarded by mu, as is all that follows
	healthy  bool       // answers only good tokens from now on
	issued   int
	requests int
	refused  int // throttled
	failed   int

	blocked   time.Time              // no request of the client before
	lastBad   time.Time              // the client's last failure
	badTokens map[string]time.Time   // each token's last failure
	sent      map[string][]time.Time // each token's requests
}

func play(t *testing.T, s uint64, total *tally) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &history{t: t, seed: s, random: rand.New(rand.NewPCG(s, 1)), badTokens: map[string]time.Time{}, sent: map[string][]time.Time{}}
		names := []string{"a", "b", "c"}[:h.roll(1, 4)]
		f := newFixture(h.answer, names...)
		f.make(f.changed(everyTokenCAE), h.answer)
		for _, m := range f.sinks {
			m.fail = h.sinkFault
		}
		began := time.Now()
		stop := f.run(t.Context())
		h.live(f, names)
		h.recover(f, names)
		stop()
		h.count(total, f, time.Since(began))
	})
}

// live lets the history happen, and looks at the sinks all along.
func (h *history) live(f *fixture, names []string) {
	newest := map[string]int{}
	for range h.roll(20, 60) {
		pass(time.Duration(h.roll(0, 90_000)) * time.Millisecond)
		h.challenge(f, names)
		h.press(f, names)
		for _, name := range names {
			held := f.sinks[name].held(name).AccessToken.Reveal()
			if held == "" && newest[name] > 0 {
				h.broken("sink %s lost its token", name)
			}
			if held == "" {
				continue
			}
			n, err := strconv.Atoi(held[len("token-"):])
			if err != nil || n < newest[name] {
				h.broken("sink %s went back from token %d to %q", name, newest[name], held)
			}
			newest[name] = n
		}
	}
}

// press asks for refreshes now and then, some of them many times, and does not wait for what comes
// of it: whether the requests may come is checked where they arrive.
func (h *history) press(f *fixture, names []string) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range h.roll(0, 4) * h.roll(0, 4) * h.roll(0, 3) {
		_, _ = f.agent.Refresh(ctx, names[h.roll(0, len(names))])
		if h.roll(0, 2) == 0 {
			pass(time.Duration(h.roll(0, 5000)) * time.Millisecond)
		}
	}
}

// recover makes the server well and expects every token to be valid and delivered when every wait
// that the agent may have to sit out is over.
func (h *history) recover(f *fixture, names []string) {
	h.mu.Lock()
	h.healthy = true
	longest := max(policy.MaxProbe, time.Until(h.blocked)*11/10) + policy.MaxRetry + 2*policy.Window
	h.mu.Unlock()
	pass(longest)
	s := f.agent.Status()
	if !s.Ready {
		h.broken("not ready %v after the server recovered: %v", longest, s.NotReady)
	}
	for _, name := range names {
		if held := f.sinks[name].held(name); !held.ValidAt(time.Now()) {
			h.broken("sink %s holds an expired token after recovery", name)
		}
	}
}

func (h *history) count(total *tally, f *fixture, took time.Duration) {
	total.mu.Lock()
	defer total.mu.Unlock()
	total.histories++
	total.requests += h.requests
	total.granted += h.issued
	total.throttled += h.refused
	total.failed += h.failed
	total.time += took
	for _, m := range f.sinks {
		total.writes += m.writes
	}
}

// broken reports a broken promise with all that is needed to see it again.
func (h *history) broken(format string, args ...any) {
	h.t.Errorf("seed %d: %s", h.seed, fmt.Sprintf(format, args...))
}

// roll returns a random number from low to below high.
func (h *history) roll(low, high int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return low + h.random.IntN(high-low)
}

func (h *history) sinkFault() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.healthy && h.random.IntN(5) == 0 {
		return errNoSpace
	}
	return nil
}

// answer is the server: it checks that the request may come at all, then answers anything.
func (h *history) answer(ctx context.Context, r provider.Request) (provider.Reply, error) {
	h.mu.Lock()
	name := r.Form.Get("scope")[len("scope-"):]
	h.arrive(name)
	reply, took, err := h.choose()
	h.mu.Unlock()
	select {
	case <-time.After(took):
	case <-ctx.Done():
		return provider.Reply{}, ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leave(name, &reply, err)
	return reply, err
}

// arrive checks the promises that a request can break.
func (h *history) arrive(name string) {
	now := time.Now()
	h.requests++
	if now.Before(h.blocked) {
		h.broken("request for %s came %v before the end of a Retry-After", name, h.blocked.Sub(now))
	}
	if since := now.Sub(h.badTokens[name]); since < policy.MinRetry {
		h.broken("retry for %s came %v after its failure", name, since)
	}
	if since := now.Sub(h.lastBad); since < policy.MinRetry {
		h.broken("request for %s came %v after a failure of the client", name, since)
	}
	h.sent[name] = append(h.sent[name], now)
	if all := h.sent[name]; len(all) > policy.MaxInWindow {
		if in := now.Sub(all[len(all)-1-policy.MaxInWindow]); in < policy.Window {
			h.broken("%d requests for %s within %v", policy.MaxInWindow+1, name, in)
		}
	}
}

// leave remembers what the answer asks of the agent.
func (h *history) leave(name string, reply *provider.Reply, err error) {
	now := time.Now()
	if reply.Header != nil && reply.Header.Get("Date") == "now" {
		reply.Header.Set("Date", now.UTC().Format(http.TimeFormat))
		seconds, _ := strconv.Atoi(reply.Header.Get("Retry-After"))
		reply.Header.Set("Retry-After", now.UTC().Add(time.Duration(seconds)*time.Second).Format(http.TimeFormat))
	}
	a := answer{at: now}
	if err != nil {
		a = unanswered(err, 10*time.Second, now)
	} else {
		a = readReply(*reply, 10*time.Second, now)
	}
	switch {
	case a.failure == nil:
		return
	case a.outcome.HasRetryAfter:
		h.blocked = now.Add(a.outcome.RetryAfter)
		h.refused++
	default:
		h.failed++
	}
	if a.failure.Local { // it never reached the server
		h.sent[name] = h.sent[name][:len(h.sent[name])-1]
	}
	h.badTokens[name] = now
	if a.outcome.ClientWide {
		h.lastBad = now
	}
}

// choose picks an answer and how long it takes.
func (h *history) choose() (provider.Reply, time.Duration, error) {
	took := time.Duration(h.random.IntN(400)) * time.Millisecond
	if h.healthy || h.random.IntN(3) == 0 {
		return h.grant(), took, nil
	}
	if h.random.IntN(4) == 0 {
		return h.unanswered()
	}
	return h.refuse(), took, nil
}

func (h *history) grant() provider.Reply {
	h.issued++
	lives := []string{"60", "300", `"900"`, "3599", "86400", "20", "3.5e2", "2", "9"}
	life := lives[h.random.IntN(len(lives))]
	extra := []string{"", `,"refresh_in":30`, `,"refresh_in":"100000"`, `,"scope":"x y"`}[h.random.IntN(4)]
	if h.healthy {
		life, extra = "86400", ""
	}
	body := fmt.Sprintf(`{"access_token":"token-%d","token_type":"bearer","expires_in":%s%s}`, h.issued, life, extra)
	return provider.Reply{Status: http.StatusOK, Header: http.Header{}, Body: []byte(body)}
}

func (h *history) unanswered() (provider.Reply, time.Duration, error) {
	kinds := []provider.Kind{provider.KindNetwork, provider.KindTimeout, provider.KindProvider, provider.KindCredential, provider.KindConfig}
	kind := kinds[h.random.IntN(len(kinds))]
	took := time.Duration(h.random.IntN(3000)) * time.Millisecond
	if kind == provider.KindTimeout {
		took = 10 * time.Second
	}
	return provider.Reply{}, took, &provider.Failure{Kind: kind, Message: "scripted"}
}

// refuse makes an answer that is no token: any status, any error, any Retry-After, any damage.
func (h *history) refuse() provider.Reply {
	statuses := []int{400, 401, 403, 404, 408, 429, 429, 429, 500, 502, 503, 503, 504, 200, 302}
	codes := []string{"invalid_client", "invalid_scope", "unauthorized_client", "temporarily_unavailable", "access_denied", "made_up"}
	bodies := []string{"", "<html>busy</html>", `{"error":`, `{"access_token":""}`, `[]`, `{"access_token":"x","token_type":"mac"}`, `{"access_token":"x","expires_in":-5}`}
	reply := refusal(statuses[h.random.IntN(len(statuses))], codes[h.random.IntN(len(codes))], "")
	if h.random.IntN(3) == 0 {
		reply.Body = []byte(bodies[h.random.IntN(len(bodies))])
	}
	switch h.random.IntN(8) {
	case 0:
		reply.Body, reply.BodyError = nil, "reading the answer: the connection ended before the answer was whole"
	case 1:
		reply.Header.Set("Retry-After", "soon")
	case 2, 3:
		reply.Header.Set("Retry-After", strconv.Itoa(h.random.IntN(900)))
	case 4:
		reply.Header.Set("Retry-After", strconv.Itoa(h.random.IntN(900)))
		reply.Header.Set("Date", "now") // becomes an HTTP date when the answer leaves
	}
	return reply
}
