package agent

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/store"
)

// remembering is a memory that outlives agents. It gives records back as a real one does, with
// instants of the wall clock only.
type remembering struct {
	mu      sync.Mutex
	records map[string]store.Record // guarded by mu, as is all that follows
	saves   int
	broken  error         // what saving says
	hangs   chan struct{} // saving waits for it; nil does not
}

func newMemory() *remembering { return &remembering{records: map[string]store.Record{}} }

func (m *remembering) LoadAll() (map[string]store.Record, []error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	loaded := map[string]store.Record{}
	for name, r := range m.records {
		loaded[name] = rewound(r)
	}
	return loaded, nil
}

// rewound is a record as another process reads it.
func rewound(r store.Record) store.Record {
	now := time.Now()
	r.Gate, r.Attempts = r.Gate.Restored(r.SavedAt, now), r.Attempts.Restored(r.SavedAt, now)
	r.Token.Name, r.Token.ClientID = "", ""
	return r
}

func (m *remembering) Save(name string, r store.Record) error {
	m.mu.Lock()
	hangs := m.hangs
	m.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saves++
	if m.broken == nil {
		r.SavedAt = time.Now()
		m.records[name] = r
	}
	return m.broken
}

func (m *remembering) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, name)
	return nil
}

func (m *remembering) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range maps.Keys(m.records) {
		names = append(names, name)
	}
	return names
}

// change changes what was saved of a token.
func (m *remembering) change(name string, change func(*store.Record)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.records[name]
	change(&r)
	m.records[name] = r
}

func (m *remembering) say(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

// successor is a new process of the same configuration, or of another one.
func (f *fixture) successor(s *server, change func(*config.Config)) *fixture {
	next := &fixture{sinks: f.sinks, check: f.check, memory: f.memory, provide: f.provide}
	next.make(f.changed(change), s.exchange)
	return next
}

func same(*config.Config) {}

// remembered is a fixture with a memory.
func remembered(s *server, tokens ...string) (*fixture, *remembering) {
	f := newFixture(s.exchange, tokens...)
	m := newMemory()
	f.memory = m
	f.make(f.agent.parts.config(), s.exchange)
	return f, m
}

func TestRestartWithAGoodTokenMakesNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f, _ := remembered(s, "a", "b")
		stop := f.run(t.Context())
		pass(time.Minute)
		planned := *f.agent.Status().Tokens[0].RefreshAt
		stop()
		pass(5 * time.Minute)
		next := f.successor(s, same)
		defer next.run(t.Context())()
		pass(time.Second)
		status := next.agent.Status()
		if !status.Ready || len(s.requests()) != 2 {
			t.Errorf("ready %v after %d requests, want 2: %v", status.Ready, len(s.requests()), status.NotReady)
		}
		if again := *status.Tokens[0].RefreshAt; !again.Equal(planned) {
			t.Errorf("the refresh planned for %v is now planned for %v", planned, again)
		}
		pass(30 * time.Minute)
		if got := len(s.requests()); got != 4 {
			t.Errorf("%d requests half a life later, want 4", got)
		}
	})
}

func TestHandoverMakesOneRequestInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f, _ := remembered(s, "a")
		if err := f.agent.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
		sidecar := f.successor(s, same)
		defer sidecar.run(t.Context())()
		pass(time.Minute)
		if got := len(s.requests()); got != 1 || !sidecar.agent.Status().Ready {
			t.Errorf("%d requests, want 1", got)
		}
	})
}

func TestRestartNeverEndsARetryAfter(t *testing.T) {
	changes := map[string]func(*config.Config){
		"the same configuration": same,
		"another token of the client": func(cfg *config.Config) {
			cfg.Tokens[0].Name, cfg.Sinks[0].Token = "b", "b"
		},
		"another credential": otherCredential,
		"another scope":      func(cfg *config.Config) { cfg.Tokens[0].Scopes = []string{"scope-other"} },
		"another name of the client": func(cfg *config.Config) {
			cfg.Clients[0].Name, cfg.Tokens[0].Client = "renamed", "renamed"
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{answer: func(n int, a arrival) (provider.Reply, error) {
					if n == 1 {
						return refusal(http.StatusTooManyRequests, "", "600"), nil
					}
					return good(n, a)
				}}
				f, _ := remembered(s, "a")
				f.sinks["b"] = &memory{path: "/b", tokens: []string{"b"}}
				stop := f.run(t.Context())
				pass(time.Second)
				stop()
				for range 5 { // restarts
					next := f.successor(s, change)
					stop := next.run(t.Context())
					pass(100 * time.Second)
					stop()
				}
				if got := len(s.requests()); got != 1 {
					t.Fatalf("%d requests before the Retry-After was over, want 1", got)
				}
				last := f.successor(s, change)
				defer last.run(t.Context())()
				pass(3 * time.Minute)
				if !last.agent.Status().Ready {
					t.Error("no token when the Retry-After is over")
				}
			})
		})
	}
}

func TestStateOfSomethingElseIsNotUsed(t *testing.T) {
	changes := map[string]func(*config.Config){
		"scope":     func(cfg *config.Config) { cfg.Tokens[0].Scopes = []string{"scope-other"} },
		"client_id": func(cfg *config.Config) { cfg.Clients[0].ClientID = "other" },
		"endpoint":  func(cfg *config.Config) { cfg.Clients[0].TokenURL = "https://other.example.com/token" },
		"provider":  func(cfg *config.Config) { cfg.Clients[0].Credential.Provider = "other" },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{answer: good}
				f, _ := remembered(s, "a")
				stop := f.run(t.Context())
				pass(time.Minute)
				stop()
				next := f.successor(s, change)
				defer next.run(t.Context())()
				pass(time.Second)
				if got := len(s.requests()); got != 2 || !next.agent.Status().Ready {
					t.Errorf("%d requests, want a second one", got)
				}
			})
		})
	}
}

func TestCrashLoopKeepsTheCeiling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sent []time.Time
		silent := func(ctx context.Context, _ provider.Request) (provider.Reply, error) {
			mu.Lock()
			sent = append(sent, time.Now())
			mu.Unlock()
			<-ctx.Done() // no answer before the crash
			return provider.Reply{}, ctx.Err()
		}
		f := newFixture(silent, "a")
		f.memory = newMemory()
		for range 200 {
			f.make(f.agent.parts.config(), silent)
			stop := f.run(t.Context())
			pass(time.Second)
			stop()
		}
		for i := policy.MaxInWindow; i < len(sent); i++ {
			if in := sent[i].Sub(sent[i-policy.MaxInWindow]); in < policy.Window {
				t.Fatalf("%d requests within %v", policy.MaxInWindow+1, in)
			}
		}
		if len(sent) < 20 {
			t.Errorf("%d requests in 200 seconds: too few to prove anything", len(sent))
		}
	})
}

func TestBackoffSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(int, arrival) (provider.Reply, error) {
			return refusal(http.StatusServiceUnavailable, "", ""), nil
		}}
		f, _ := remembered(s, "a")
		stop := f.run(t.Context())
		pass(30 * time.Minute)
		stop()
		before := len(s.requests())
		for range 60 {
			f = f.successor(s, same)
			stop := f.run(t.Context())
			pass(10 * time.Second)
			stop()
		}
		if more := len(s.requests()) - before; more > 4 {
			t.Errorf("%d requests in ten minutes of restarts", more)
		}
	})
}

func TestCredentialReplacedWhileNobodyWatchedIsProved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRotating(t, nil, good)
		m := newMemory()
		r.memory = m
		r.make(r.agent.parts.config(), r.server.exchange)
		if err := r.agent.Check(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		stop := r.run(t.Context())
		pass(time.Minute)
		stop()
		next := r.successor(r.server, same)
		stop = next.run(t.Context())
		pass(time.Minute)
		if got := len(r.server.requests()); got != 2 {
			t.Errorf("%d requests with the same credential, want 2", got)
		}
		stop()
		replace(t, r.path, "second")
		next = r.successor(r.server, same)
		defer next.run(t.Context())()
		pass(time.Minute)
		if got := len(r.server.requests()); got != 3 {
			t.Errorf("%d requests with another credential, want a third as proof", got)
		}
	})
}

// TestReplacedCredentialIsProvedOnce: an embedding program adds the tokens of an earlier process one by one,
// whether the provider names its credential or not.
func TestReplacedCredentialIsProvedOnce(t *testing.T) {
	for name, identities := range map[string][]string{
		"another one":     {"first", "first", "second"},
		"without a name":  {"first", "first", ""},
		"from now on one": {"", "", "first"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				state := newMemory()
				for life, want := range []int{6, 0, 1} {
					p := newProgram(good)
					p.agent.options.Memory = state
					p.agent.options.Provider = func(provider.Spec) Provider {
						return named{&scripted{answer: p.server.exchange}, provider.Credential{Files: []string{"/nothing"}, Identity: identities[life]}}
					}
					p.agent.restore()
					stop := p.run(t.Context())
					p.apply(t, SetClient(clientOf("c", "id")))
					for i := range 6 {
						p.apply(t, SetToken(tokenOf(fmt.Sprintf("t%d", i), "c")))
						pass(10 * time.Second)
					}
					if n := len(p.server.requests()); n != want {
						t.Errorf("%d requests in life %d, want %d", n, life, want)
					}
					stop()
				}
			})
		})
	}
}

// TestCredentialThatDidNotLoadIsComparedLater: the next token of an earlier process is another occasion.
func TestCredentialThatDidNotLoadIsComparedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := newMemory()
		for life, want := range []int{2, 1} {
			p := newProgram(good)
			p.agent.options.Memory = state
			var fails atomic.Bool
			p.agent.options.Provider = func(provider.Spec) Provider {
				credential := provider.Credential{Files: []string{"/nothing"}, Identity: fmt.Sprint(life)}
				return named{&scripted{answer: p.server.exchange, check: func() (provider.Credential, error) {
					if fails.Load() {
						return provider.Credential{}, errNoSpace
					}
					return credential, nil
				}}, credential}
			}
			p.agent.restore()
			stop := p.run(t.Context())
			fails.Store(life == 1)
			p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")))
			pass(10 * time.Second)
			fails.Store(false)
			p.apply(t, SetToken(tokenOf("b", "c")))
			pass(10 * time.Second)
			if n := len(p.server.requests()); n != want {
				t.Errorf("%d requests in life %d, want %d", n, life, want)
			}
			stop()
		}
	})
}

// named is a provider that tells which credential it uses when it has loaded it.
type named struct {
	*scripted
	credential provider.Credential
}

func (n named) Exchange(ctx context.Context, r provider.Request) (provider.Reply, error) {
	reply, err := n.scripted.Exchange(ctx, r)
	reply.Credential = n.credential
	return reply, err
}

func (n named) Check(ctx context.Context, load bool) (provider.Credential, []provider.Problem, error) {
	switch {
	case !load:
		return provider.Credential{}, nil, nil
	case n.check == nil:
		return n.credential, nil, nil
	}
	return n.scripted.Check(ctx, load)
}

func TestStateThatCannotBeSavedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f, m := remembered(s, "a")
		m.say(errNoSpace)
		stop := f.run(t.Context())
		defer stop()
		pass(5 * time.Minute)
		if !f.agent.Status().Ready || len(m.names()) != 0 {
			t.Errorf("ready %v, saved %v", f.agent.Status().Ready, m.names())
		}
		if m.saves < 5 || m.saves > 30 {
			t.Errorf("tried %d times in five minutes", m.saves)
		}
		m.say(nil)
		pass(2 * time.Minute)
		if len(m.names()) != 1 {
			t.Error("not saved although there is space again")
		}
	})
}

func TestStateDirectoryThatHangsCostsNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := remembered(&server{answer: good}, "a")
		m.hangs = make(chan struct{})
		stop := f.run(t.Context())
		pass(10 * time.Second)
		if !f.agent.Status().Ready {
			t.Error("no token while the state directory hangs")
		}
		began := time.Now()
		stop()
		if took := time.Since(began); took > 2*stopTimeout {
			t.Errorf("stopped after %v", took)
		}
		close(m.hangs)
	})
}

func TestStateOfTokensThatAreNoMoreIsForgottenWhenNothingIsOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f, m := remembered(s, "a", "b")
		stop := f.run(t.Context())
		pass(time.Minute)
		stop()
		fewer := func(cfg *config.Config) { cfg.Tokens, cfg.Sinks = cfg.Tokens[:1], cfg.Sinks[:1] }
		stop = f.successor(s, fewer).run(t.Context())
		pass(time.Second)
		stop()
		if len(m.names()) != 2 {
			t.Errorf("%v while the token is good", m.names())
		}
		pass(2 * time.Hour)
		stop = f.successor(s, fewer).run(t.Context())
		pass(time.Second)
		stop()
		if len(m.names()) != 1 {
			t.Errorf("%v after the token expired", m.names())
		}
	})
}
