package agent

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/agent/store"
)

var (
	scenarios = flag.Int("scenarios", 1_000, "how many random histories TestScenarios plays; make scenarios plays 100,000")
	seed      = flag.Uint64("seed", 0, "play only the history of this seed")
)

// weekly histories last for a simulated week or more.
const weekly = 500

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
	t.Logf("%d histories, %d token requests: %d granted, %d throttled, %d other failures; %d restarts, %d reloads; %.0f simulated hours; %d sink writes",
		total.histories, total.requests, total.granted, total.throttled, total.failed, total.crashes, total.reloads, total.time.Hours(), total.writes)
	if total.histories != *scenarios || total.granted == 0 || total.throttled == 0 || total.failed == 0 || total.crashes == 0 || total.reloads == 0 {
		t.Error("the histories did not cover what they should")
	}
}

// tally counts what the histories covered.
type tally struct {
	mu                                                                        sync.Mutex
	histories, requests, granted, throttled, failed, writes, crashes, reloads int
	time                                                                      time.Duration
}

// history is one random server and one agent after another, each remembering what the one before
// it saved.
type history struct {
	t      *testing.T
	seed   uint64
	scale  int // by how much everything takes longer
	names  []string
	waits  *sharedWaits
	memory *remembering
	spare  bool // there is a fallback credential

	agent    *fixture // the one that runs
	killed   *mortal
	stop     func()
	newest   map[string]int // what a sink was last seen to hold
	crashes  int
	commands int
	reloads  int
	random   *rand.Rand // what the test itself decides

	mu       sync.Mutex
	streams  map[string]*rand.Rand // guarded by mu, as is all that follows
	dice     *rand.Rand            // of the request that is being looked at
	healthy  bool                  // answers only good tokens from now on
	issued   int
	requests int
	refused  int // throttled
	failed   int

	blocked   time.Time              // no request of the client before
	lastBad   time.Time              // the client's last failure
	badTokens map[string]time.Time   // each token's last failure
	sent      map[string][]time.Time // each token's requests
	spent     bool                   // the fallback was refused, since anything changed
	changes   int                    // of the client's credentials
	// replacedAt is when the client was last replaced: of a request in that very instant nobody knows
	// whether the old one or the new one made it.
	replacedAt time.Time
}

// unsure stands for a number of changes that is not known.
const unsure = -1

// mortal is the memory of one process: what it saves after it was killed is lost.
type mortal struct {
	*remembering
	dead atomic.Bool
}

// Save implements [Memory].
func (m *mortal) Save(name string, r store.Record) error {
	if m.dead.Load() {
		return nil
	}
	return m.remembering.Save(name, r)
}

func play(t *testing.T, s uint64, total *tally) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &history{
			t: t, seed: s, scale: 1, random: rand.New(rand.NewPCG(s, 1)), memory: newMemory(), streams: map[string]*rand.Rand{},
			waits:  &sharedWaits{until: map[string]time.Time{}},
			newest: map[string]int{}, badTokens: map[string]time.Time{}, sent: map[string][]time.Time{},
		}
		if s%weekly == 0 {
			h.scale = 100
		}
		h.names = []string{"a", "b", "c"}[:h.roll(1, 4)]
		h.spare = h.roll(0, 3) == 0
		f := newFixture(nil, h.names...)
		for name, m := range f.sinks {
			m.fail = func() error { return h.sinkFault(name) }
		}
		cfg := f.changed(everyTokenCAE)
		if h.spare {
			cfg.Clients[0].FallbackCredential = &config.Credential{Provider: status.Fallback}
		}
		began := time.Now()
		h.start(f, cfg)
		h.live()
		h.recover()
		h.stop()
		h.count(total, time.Since(began))
	})
}

// start starts an agent.
func (h *history) start(f *fixture, cfg *config.Config) {
	h.killed = &mortal{remembering: h.memory}
	h.agent = &fixture{sinks: f.sinks, memory: h.killed, waits: h.waits, provide: h.provide, random: h.chance}
	h.agent.make(cfg, nil)
	h.stop = h.agent.run(h.t.Context())
}

func (h *history) provide(spec provider.Spec) Provider {
	spare := spec.Provider == status.Fallback
	return &scripted{answer: func(ctx context.Context, r provider.Request) (provider.Reply, error) {
		return h.answer(ctx, r, spare)
	}}
}

// live lets the history happen, and looks at the sinks all along.
func (h *history) live() {
	for range h.roll(20, 60) {
		pass(time.Duration(h.roll(0, 90_000)) * time.Duration(h.scale) * time.Millisecond)
		h.challenge(h.agent, h.names)
		h.press(h.agent, h.names)
		switch n := h.roll(0, 100); {
		case n < 8:
			h.restart(true)
		case n < 12:
			h.restart(false)
		case n < 18:
			h.reload()
		case n < 24:
			h.rotate()
		case n < 27:
			h.command()
		case n < 29:
			h.forget()
		}
		h.look()
	}
}

// look checks that no sink loses its token or goes back to an older one.
func (h *history) look() {
	for _, name := range h.names {
		held := h.agent.sinks[name].held(name).AccessToken.Reveal()
		if held == "" && h.newest[name] > 0 {
			h.broken("sink %s lost its token", name)
		}
		if held == "" {
			continue
		}
		n, err := strconv.Atoi(held[len("token-"):])
		if err != nil || n < h.newest[name] {
			h.broken("sink %s went back from token %d to %q", name, h.newest[name], held)
		}
		h.newest[name] = n
	}
}

// restart ends the agent, as a kill does or in order, and starts another.
func (h *history) restart(kill bool) { h.restartWith(kill, func() {}) }

// restartWith does something between the two.
func (h *history) restartWith(kill bool, between func()) {
	// A part of a millisecond of its own keeps a kill from the very instant of an answer, which no
	// promise covers.
	pass(time.Until(time.Now().Truncate(time.Millisecond).Add(time.Duration(h.roll(1_000_001, 2_000_000)))))
	h.crashes++
	h.killed.dead.Store(kill)
	h.stop()
	pass(time.Duration(h.roll(0, 5000)*h.roll(1, 100)) * time.Millisecond)
	between()
	h.start(h.agent, h.agent.agent.parts.config())
}

// command is another command on the host, of the same configuration and without the agent's state: once
// from cron, or exec. What the server asked one for, the other keeps too.
func (h *history) command() {
	h.commands++
	sinks := map[string]*memory{}
	for _, name := range h.names {
		sinks[name] = &memory{path: "/" + name, tokens: []string{name}}
	}
	f := &fixture{sinks: sinks, waits: h.waits, random: h.chance, provide: func(provider.Spec) Provider {
		return &scripted{answer: h.answerCommand}
	}}
	f.make(h.agent.agent.parts.config(), nil)
	stop := f.run(h.t.Context())
	pass(time.Duration(h.roll(1, 60_000)) * time.Millisecond)
	stop()
}

// answerCommand is the server for another command. Of what the agent must not do it checks what holds
// for the host: the waits that the server asked for.
func (h *history) answerCommand(ctx context.Context, r provider.Request) (provider.Reply, error) {
	h.mu.Lock()
	h.dice = h.stream("server of a command")
	if now := time.Now(); now.Before(h.blocked) {
		h.broken("another command's request came %v before the end of a Retry-After", h.blocked.Sub(now))
	}
	h.requests++
	reply, took, err := h.choose()
	h.mu.Unlock()
	select {
	case <-time.After(took):
	case <-ctx.Done():
		return provider.Reply{}, ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.date(&reply, now)
	if a := exchange.Read("", reply, err, 10*time.Second, now); a.Outcome.HasRetryAfter {
		h.blocked = latestOf(h.blocked, now.Add(a.Outcome.RetryAfter))
		h.refused++
	}
	return reply, err
}

func latestOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// forget restarts the agent without its state. What it owes by its own rules is lost; what the server
// asked for is not.
func (h *history) forget() {
	h.restartWith(true, func() {
		h.memory = newMemory()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.badTokens, h.lastBad, h.sent, h.spent = map[string]time.Time{}, time.Time{}, map[string][]time.Time{}, false
		h.changes++
	})
}

// reload makes the agent follow a configuration that asks for the same, named or timed otherwise.
func (h *history) reload() {
	h.reloads++
	variant := h.roll(0, 4)
	share := float64(h.roll(30, 80)) / 100
	spelling := h.roll(0, 4)
	cfg := h.agent.changed(func(cfg *config.Config) {
		switch variant {
		case 0:
			cfg.Tokens[0].RefreshAt = share
		case 1:
			cfg.Clients[0].Name += "x"
			for i := range cfg.Tokens {
				cfg.Tokens[i].Client = cfg.Clients[0].Name
			}
		case 3: // the same endpoint, written otherwise
			spellings := []string{"https://login.example.com/token", "HTTPS://LOGIN.example.com/token", "https://login.example.com:443/token", "https://login.example.com./%74oken"}
			cfg.Clients[0].TokenURL = spellings[spelling]
		}
	})
	if variant == 1 || variant == 3 { // another client tries both credentials anew
		h.mu.Lock()
		h.spent = false
		h.changes++
		h.replacedAt = time.Now()
		h.mu.Unlock()
	}
	if err := h.agent.agent.Reload(h.t.Context(), cfg); err != nil {
		h.broken("reload: %v", err)
	}
}

// rotate has the agent notice that a credential was replaced.
func (h *history) rotate() {
	for _, c := range h.agent.agent.parts.list().clients {
		names := []string{status.Primary, status.Fallback}[:len(c.client.Status().Credentials)]
		which := h.roll(0, len(names))
		h.mu.Lock()
		h.spent = false
		h.changes++
		h.mu.Unlock()
		c.client.Prove(h.t.Context(), names[which])
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
// that the agent may have to sit out is over, and none to expire from then on.
func (h *history) recover() {
	h.mu.Lock()
	h.healthy = true
	longest := max(policy.MaxProbe, time.Until(h.blocked)*11/10) + policy.MaxRetry + 2*policy.Window
	h.mu.Unlock()
	pass(longest)
	s := h.agent.agent.Status()
	if !s.Ready {
		h.broken("not ready %v after the server recovered: %v", longest, s.NotReady)
	}
	watched := 1
	if h.scale > 1 {
		watched = 60
	}
	for range watched {
		for _, name := range h.names {
			if held := h.agent.sinks[name].held(name); !held.ValidAt(time.Now()) {
				h.broken("sink %s holds an expired token although the server is well", name)
			}
		}
		pass(time.Hour)
	}
}

func (h *history) count(total *tally, took time.Duration) {
	total.mu.Lock()
	defer total.mu.Unlock()
	total.histories++
	total.requests += h.requests
	total.granted += h.issued
	total.throttled += h.refused
	total.failed += h.failed
	total.time += took
	total.crashes += h.crashes
	total.reloads += h.reloads
	for _, m := range h.agent.sinks {
		total.writes += m.writes
	}
}

// broken reports a broken promise with all that is needed to see it again.
func (h *history) broken(format string, args ...any) {
	h.t.Errorf("seed %d: %s", h.seed, fmt.Sprintf(format, args...))
}

// roll returns a random number from low to below high.
func (h *history) roll(low, high int) int { return low + h.random.IntN(high-low) }

// stream returns whose own source of chance; h.mu is held. Each has its own, so that what one does
// in the same instant as another changes nothing for the other, and a seed plays again.
func (h *history) stream(whose string) *rand.Rand {
	if h.streams[whose] == nil {
		sum := fnv.New64()
		_, _ = sum.Write([]byte(whose))
		h.streams[whose] = rand.New(rand.NewPCG(h.seed, sum.Sum64()))
	}
	return h.streams[whose]
}

// chance gives the agent its dice.
func (h *history) chance(whose string) func() float64 {
	return func() float64 {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.stream(whose).Float64()
	}
}

func (h *history) sinkFault(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.healthy && h.stream("sink of "+name).IntN(5) == 0 {
		return errNoSpace
	}
	return nil
}

// answer is the server: it checks that the request may come at all, then answers anything.
func (h *history) answer(ctx context.Context, r provider.Request, spare bool) (provider.Reply, error) {
	h.mu.Lock()
	name := r.Form.Get("scope")[len("scope-"):]
	h.dice = h.stream("server of " + name)
	changes := h.changes
	if time.Now().Equal(h.replacedAt) {
		changes = unsure
	}
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
	h.leave(name, &reply, err, spare, changes)
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
func (h *history) leave(name string, reply *provider.Reply, err error, spare bool, changes int) {
	now := time.Now()
	h.date(reply, now)
	a := exchange.Read("", *reply, err, 10*time.Second, now)
	switch {
	case a.Failure == nil:
		h.spent = false
		return
	case a.Outcome.HasRetryAfter:
		h.blocked = latestOf(h.blocked, now.Add(a.Outcome.RetryAfter))
		h.refused++
	default:
		h.failed++
	}
	if a.Failure.Local { // it never reached the server
		h.sent[name] = h.sent[name][:len(h.sent[name])-1]
	}
	if h.spare && a.Failure.Class == policy.Credential && changes == unsure {
		h.spent = false
		return
	}
	if h.spare && a.Failure.Class == policy.Credential && h.changes == changes {
		if !spare && !h.spent {
			return // one request with the fallback may follow at once
		}
		h.spent = h.spent || spare
	}
	h.badTokens[name] = now
	if a.Outcome.ClientWide {
		h.lastBad = now
	}
}

// date makes an HTTP date of a wait that is to be one.
func (h *history) date(reply *provider.Reply, now time.Time) {
	if reply.Header != nil && reply.Header.Get("Date") == "now" {
		reply.Header.Set("Date", now.UTC().Format(http.TimeFormat))
		seconds, _ := strconv.Atoi(reply.Header.Get("Retry-After"))
		reply.Header.Set("Retry-After", now.UTC().Add(time.Duration(seconds)*time.Second).Format(http.TimeFormat))
	}
}

// choose picks an answer and how long it takes: never no time, and no two the same, so that what is
// sent while another answer comes was sent before it or after it.
func (h *history) choose() (provider.Reply, time.Duration, error) {
	took := time.Duration(1 + h.dice.IntN(int(400*time.Millisecond)))
	if h.healthy || h.dice.IntN(3) == 0 {
		return h.grant(), took, nil
	}
	if h.dice.IntN(4) == 0 {
		return h.unanswered()
	}
	return h.refuse(), took, nil
}

func (h *history) grant() provider.Reply {
	h.issued++
	lives := []string{"60", "300", `"900"`, "3599", "86400", "20", "3.5e2", "2", "9"}
	life := lives[h.dice.IntN(len(lives))]
	extra := []string{"", `,"refresh_in":30`, `,"refresh_in":"100000"`, `,"scope":"x y"`}[h.dice.IntN(4)]
	if h.healthy {
		life, extra = "86400", ""
	}
	body := fmt.Sprintf(`{"access_token":"token-%d","token_type":"bearer","expires_in":%s%s}`, h.issued, life, extra)
	return provider.Reply{Status: http.StatusOK, Header: http.Header{}, Body: []byte(body)}
}

func (h *history) unanswered() (provider.Reply, time.Duration, error) {
	kinds := []provider.Kind{provider.KindNetwork, provider.KindTimeout, provider.KindProvider, provider.KindCredential, provider.KindConfig}
	kind := kinds[h.dice.IntN(len(kinds))]
	took := time.Duration(1 + h.dice.IntN(int(3*time.Second)))
	if kind == provider.KindTimeout {
		took += 10 * time.Second
	}
	return provider.Reply{}, took, &provider.Failure{Kind: kind, Message: "scripted"}
}

// refuse makes an answer that is no token: any status, any error, any Retry-After, any damage.
func (h *history) refuse() provider.Reply {
	statuses := []int{400, 401, 403, 404, 408, 429, 429, 429, 500, 502, 503, 503, 504, 200, 302}
	codes := []string{"invalid_client", "invalid_scope", "unauthorized_client", "temporarily_unavailable", "access_denied", "made_up"}
	bodies := []string{"", "<html>busy</html>", `{"error":`, `{"access_token":""}`, `[]`, `{"access_token":"x","token_type":"mac"}`, `{"access_token":"x","expires_in":-5}`}
	reply := refusal(statuses[h.dice.IntN(len(statuses))], codes[h.dice.IntN(len(codes))], "")
	if h.dice.IntN(3) == 0 {
		reply.Body = []byte(bodies[h.dice.IntN(len(bodies))])
	}
	switch h.dice.IntN(8) {
	case 0:
		reply.Body, reply.BodyError = nil, "reading the answer: the connection ended before the answer was whole"
	case 1:
		reply.Header.Set("Retry-After", "soon")
	case 2, 3:
		reply.Header.Set("Retry-After", strconv.Itoa(h.dice.IntN(900)))
	case 4:
		reply.Header.Set("Retry-After", strconv.Itoa(h.dice.IntN(900)))
		reply.Header.Set("Date", "now") // becomes an HTTP date when the answer leaves
	}
	return reply
}
