//go:build unix

package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// at is the handle of a client whose token endpoint is known.
func (r *rig) at(request Request, config any) *Process {
	r.t.Helper()
	encoded, err := json.Marshal(config)
	if err != nil {
		r.t.Fatal(err)
	}
	p := r.Process(Spec{Client: "app", Provider: behaving, Config: encoded, TokenEndpoint: request.TokenEndpoint})
	r.t.Cleanup(p.Close)
	return p
}

// slowServer answers when release is called, and tells how many requests have arrived.
func slowServer(t *testing.T) (request Request, arrived *atomic.Int32, release func()) {
	t.Helper()
	arrived = &atomic.Int32{}
	held := make(chan struct{})
	release = sync.OnceFunc(func() { close(held) })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived.Add(1)
		<-held
		fmt.Fprint(w, "{}")
	}))
	t.Cleanup(s.Close)
	t.Cleanup(release)
	request, _ = tokenServer(t)
	request.TokenEndpoint = s.URL
	return request, arrived, release
}

// asking makes an exchange in the background.
func asking(p *Process, request Request) <-chan error {
	answered := make(chan error, 1)
	go func() {
		_, err := p.Exchange(context.Background(), request)
		answered <- err
	}()
	return answered
}

func suspected(p *Process) bool {
	p.host.pool.mu.Lock()
	defer p.host.pool.mu.Unlock()
	return p.suspect != nil
}

// All clients of a server share a process, however many ask at once, whatever they ask first, and
// whether their token endpoint is known; those of another server, or with other variables, have theirs.
func TestClientsOfAServerShare(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	first, _ := tokenServer(t)
	second, _ := tokenServer(t)
	share := func(want int32, clients ...*Process) {
		t.Helper()
		before := r.starts.Load()
		var calls sync.WaitGroup
		for i, p := range clients {
			calls.Go(func() {
				if _, _, err := p.Check(t.Context(), i%2 == 0); err != nil {
					t.Errorf("Check: %v", err)
				}
			})
		}
		calls.Wait()
		for _, p := range clients {
			mustCheck(t, p)
		}
		if got := r.starts.Load() - before; got != want {
			t.Errorf("%d starts, want %d", got, want)
		}
	}
	var many []*Process
	for range 60 {
		many = append(many, r.at(first, puppet{}))
	}
	share(1, many[1:]...)
	share(0, many...)
	mustExchange(t, many[0], first)
	share(1, r.at(second, puppet{}))
	share(1, r.at(first, puppet{TokenEnv: "OTHER"}))
	odd := func(of string) *Process {
		return r.at(first, map[string]any{"environment": map[string]string{"OF": of}})
	}
	for _, p := range []*Process{odd("a"), odd("b"), odd("a")} {
		if _, problems, err := p.Check(t.Context(), false); err != nil || len(problems) != 1 {
			t.Errorf("%v, %v", problems, err)
		}
	}
	if n := r.starts.Load(); n != 5 {
		t.Errorf("%d starts, want one for each environment", n)
	}

	found := r.Process(Spec{Provider: behaving, Config: []byte("{}"), Issuer: "https://issuer.example"})
	late := r.Process(Spec{Provider: behaving, Config: []byte("{}"), Issuer: "https://issuer.example"})
	defer found.Close()
	defer late.Close()
	mustExchange(t, found, first)
	share(0, late) // the issuer's token endpoint is known
}

// A check that reads nothing has no process of its own, and who needs that process first gets it.
func TestChecksShareAProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	var all []*Process
	var requests []Request
	for range 3 {
		request, _ := tokenServer(t)
		requests = append(requests, request)
		all = append(all, r.at(request, puppet{}))
	}
	for _, p := range all {
		if _, _, err := p.Check(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.starts.Load(); n != 1 {
		t.Errorf("%d starts for checks", n)
	}
	for i, p := range all {
		mustExchange(t, p, requests[i])
	}
	if n := r.starts.Load(); n != 3 {
		t.Errorf("%d starts for three servers", n)
	}
}

// Idle processes end first, those unused for longest; busy ones hold up no other server.
func TestProcessesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.MaxProcesses = 2 })
	var clients []*Process
	var requests []Request
	for range 3 {
		request, _ := tokenServer(t)
		requests = append(requests, request)
		clients = append(clients, r.at(request, puppet{}))
	}
	use := func(i int, starts int32) {
		t.Helper()
		mustExchange(t, clients[i], requests[i])
		if r.starts.Load() != starts || r.processes() > 2 {
			t.Errorf("client %d: %d starts, want %d; %d processes", i, r.starts.Load(), starts, r.processes())
		}
	}
	use(0, 1)
	use(1, 2)
	use(0, 2)
	use(2, 3) // in place of 1's
	use(0, 3)
	use(1, 4) // in place of 2's

	var waiting []<-chan error
	var releases []func()
	for range 3 {
		slow, arrived, release := slowServer(t)
		waiting = append(waiting, asking(r.at(slow, puppet{}), slow))
		releases = append(releases, release)
		waitUntil(t, "the request has arrived", func() bool { return arrived.Load() == 1 })
	}
	mustExchange(t, clients[0], requests[0])
	for i, release := range releases {
		release()
		if err := <-waiting[i]; err != nil {
			t.Error(err)
		}
	}
	waitUntil(t, "those beyond the limit end", func() bool { return r.processes() <= 2 })
}

// One client's fault costs those one request that had one under way, and no second one: the next time it
// is alone. That also shows that it was not the others.
func TestACrashIsFeltOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	slow, arrived, release := slowServer(t)
	neighbour, culprit := r.at(slow, puppet{}), r.at(slow, puppet{Do: "exit"})
	waiting := asking(neighbour, slow)
	waitUntil(t, "the request has arrived", func() bool { return arrived.Load() == 1 })
	_, err := culprit.Exchange(t.Context(), slow)
	mustFail(t, err, KindProvider)
	mustFail(t, <-waiting, KindProvider)
	if !suspected(neighbour) || !suspected(culprit) {
		t.Error("they are not suspected both")
	}
	bystander := r.at(slow, puppet{})
	waiting, others := asking(neighbour, slow), asking(bystander, slow)
	waitUntil(t, "the requests have arrived", func() bool { return arrived.Load() == 3 })
	_, err = culprit.Exchange(t.Context(), slow)
	mustFail(t, err, KindProvider)
	release()
	if err := errors.Join(<-waiting, <-others); err != nil {
		t.Error(err)
	}
	if suspected(neighbour) || suspected(bystander) || !suspected(culprit) {
		t.Error("it is not the culprit alone that is suspected")
	}
	if n := r.starts.Load(); n != 4 {
		t.Errorf("%d starts, want one for all, one for each suspect, and one for the bystander", n)
	}
}

// A call that hangs, or whose reply makes no sense, costs no other client anything: what is under way is
// seen through, and new calls go to another process.
func TestAHangIsFeltByNobodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options) { o.limits.grace = 300 * time.Millisecond })
	slow, arrived, release := slowServer(t)
	neighbour, culprit := r.at(slow, puppet{}), r.at(slow, puppet{Do: "hang"})
	waiting := asking(neighbour, slow)
	waitUntil(t, "the request has arrived", func() bool { return arrived.Load() == 1 })
	short := slow
	short.Timeout = 100 * time.Millisecond
	_, err := culprit.Exchange(t.Context(), short)
	mustFail(t, err, KindProvider)
	next := asking(r.at(slow, puppet{}), slow)
	waitUntil(t, "the other request has arrived", func() bool { return arrived.Load() == 2 })
	if n := r.starts.Load(); n != 2 {
		t.Errorf("%d starts", n)
	}
	release()
	if err := errors.Join(<-waiting, <-next); err != nil || suspected(neighbour) {
		t.Errorf("%v, suspected: %v", err, suspected(neighbour))
	}
	waitUntil(t, "the process of the hanging call ends", func() bool { return r.processes() == 1 })
}

// history is what the clients of some servers do, of which some have faults.
type history struct {
	seed     uint64
	clients  []historyClient
	culprits []int // by server
}

type historyClient struct {
	server int
	do     string // its fault; "" for none
	once   bool   // that it has once
	calls  []bool // whether each is an exchange; else a check
}

const historyServers = 3 // the last has no culprit

func newHistory(seed uint64) history {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // not a secret
	h := history{seed: seed, culprits: make([]int, historyServers)}
	faults := []string{"exit", "exit 0", "abort", "panic elsewhere", "close its sockets", "hang", "flood", "panic"}
	for server := range historyServers {
		for i := range 3 + random.IntN(4) {
			c := historyClient{server: server}
			if i < 1+random.IntN(2) && server != historyServers-1 {
				c.do, c.once = faults[random.IntN(len(faults))], random.IntN(2) == 0
				h.culprits[server]++
			}
			for range 2 + random.IntN(5) {
				c.calls = append(c.calls, random.IntN(3) > 0)
			}
			h.clients = append(h.clients, c)
		}
	}
	random.Shuffle(len(h.clients), func(i, j int) { h.clients[i], h.clients[j] = h.clients[j], h.clients[i] })
	return h
}

// Whatever some clients' credentials do to their providers, the others lose at most one request for each
// of them, clients of other servers lose none, and neither processes nor starts are without bound.
func TestHistoriesOfFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			newHistory(seed).play(t)
		})
	}
}

func (h history) play(t *testing.T) {
	t.Helper()
	max := 2 + int(h.seed%4)*4
	var most atomic.Int32
	r := newRig(t, func(o *Options) {
		o.MaxProcesses = max
		o.limits.grace, o.limits.gap = 300*time.Millisecond, 50*time.Millisecond
	})
	start := r.pool.start
	r.pool.start = func(ctx context.Context, k key, spec Spec) (*running, error) {
		for n := int32(len(r.left())); n > most.Load(); {
			most.Store(n)
		}
		return start(ctx, k, spec)
	}
	var requests []Request
	for range historyServers {
		request, _ := tokenServer(t)
		requests = append(requests, request)
	}
	dir := t.TempDir()
	var playing sync.WaitGroup
	calls := 0
	for i, c := range h.clients {
		calls += len(c.calls)
		config := puppet{Do: c.do}
		if c.once {
			config.Once = filepath.Join(dir, fmt.Sprint(i))
		}
		p := r.at(requests[c.server], config)
		playing.Go(func() {
			if lost := c.play(t, p, requests[c.server]); c.do == "" && lost > h.culprits[c.server] {
				t.Errorf("client %d lost %d requests to %d culprits", i, lost, h.culprits[c.server])
			}
		})
	}
	playing.Wait()
	// Each call of the culprits may need a process; the others need one for each fault, theirs and, as
	// suspects, their own. With room for all nothing else is started.
	if n := int(most.Load()); n > max+2*historyServers {
		t.Errorf("%d processes at a time, with a limit of %d", n, max)
	}
	if n := int(r.starts.Load()); n > calls+historyServers {
		t.Errorf("%d starts for %d calls", n, calls)
	}
}

// play makes a client's calls one after another, and returns how many failed.
func (c historyClient) play(t *testing.T, p *Process, request Request) (lost int) {
	t.Helper()
	for _, exchange := range c.calls {
		var err error
		switch {
		case !exchange && c.do != "hang": // a check of one that hangs would take long
			_, _, err = p.Check(context.Background(), true)
		case c.do == "hang":
			request.Timeout = 200 * time.Millisecond
			fallthrough
		default:
			_, err = p.Exchange(context.Background(), request)
		}
		if err != nil {
			lost++
		}
	}
	return lost
}

// A provider that does not start is started once a second, however many clients want it.
func TestFailingStartsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{IdleTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
		starts := 0
		h.pool.start = func(context.Context, key, Spec) (*running, error) {
			starts++
			<-time.After(10 * time.Millisecond)
			return nil, errors.New("it does not start")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+500*time.Millisecond)
		defer cancel()
		var clients sync.WaitGroup
		for range 200 {
			p := h.Process(Spec{Provider: "broken", TokenEndpoint: "https://login.example"})
			clients.Go(func() {
				for ctx.Err() == nil {
					_, _, _ = p.Check(ctx, true)
				}
			})
		}
		clients.Wait()
		if starts != 11 {
			t.Errorf("%d starts in ten seconds", starts)
		}
	})
}

// Starts take turns; one that is not ready soon gives up its turn.
func TestStartsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{IdleTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
		begun := time.Now()
		for range startsAtOnce {
			if _, err := h.pool.turn(t.Context(), time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		done, err := h.pool.turn(t.Context(), time.Time{})
		if took := time.Since(begun); err != nil || took != startTurn {
			t.Errorf("%v after %s", err, took)
		}
		done()
		synctest.Wait()
		if n := len(h.pool.starting); n != 0 {
			t.Errorf("%d turns are taken", n)
		}
	})
}

// A suspicion is forgotten after a day.
func TestSuspicionIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{IdleTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
		p := h.Process(Spec{Provider: "x", TokenEndpoint: "https://login.example"})
		in := newInstance(key{provider: "x"})
		h.pool.suspect(in, p)
		<-time.After(suspicion)
		if h.pool.keyOf(p, want{}).own != p {
			t.Error("it is forgotten too soon")
		}
		<-time.After(time.Second)
		if h.pool.keyOf(p, want{}).own != nil {
			t.Error("it is not forgotten")
		}
		in.cancel()
	})
}
