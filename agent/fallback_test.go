package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/filewatch"
)

// twofold is a fixture whose client has two credentials, each a file. The server accepts what is
// in the set.
type twofold struct {
	*fixture
	dir  string
	slow time.Duration // what an answer takes

	mu       sync.Mutex
	accepted map[string]bool // guarded by mu, as is all that follows
	refusal  provider.Reply
	used     []string // the credential of each request
	sent     []time.Time
}

// credentialFile is a provider whose credential is its file's content.
type credentialFile struct {
	world *twofold
	path  string
}

func newTwofold(t *testing.T, accepted ...string) *twofold {
	w := &twofold{dir: t.TempDir(), accepted: map[string]bool{}, refusal: refusal(http.StatusUnauthorized, "invalid_client", "")}
	w.accept(accepted...)
	f := newFixture(nil, "a", "b")
	cfg := f.agent.parts.config()
	cfg.Clients[0].Credential = config.Credential{Provider: "file", Config: w.file(t, "primary")}
	cfg.Clients[0].FallbackCredential = &config.Credential{Provider: "file", Config: w.file(t, "fallback")}
	f.provide = func(spec provider.Spec) Provider {
		var path string
		_ = json.Unmarshal(spec.Config, &path)
		return credentialFile{w, path}
	}
	f.make(cfg, nil)
	w.fixture = f
	if err := w.agent.Check(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *twofold) file(t *testing.T, name string) json.RawMessage {
	path := filepath.Join(w.dir, name)
	putFile(t, path, name)
	config, _ := json.Marshal(path)
	return config
}

// accept makes the server know just these credentials.
func (w *twofold) accept(credentials ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.accepted)
	for _, credential := range credentials {
		w.accepted[credential] = true
	}
}

func (w *twofold) log() (used []string, sent []time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.used...), append([]time.Time(nil), w.sent...)
}

func (c credentialFile) Exchange(context.Context, provider.Request) (provider.Reply, error) {
	said, err := c.read()
	if err != nil {
		return provider.Reply{}, &provider.Failure{Kind: provider.KindCredential, Message: err.Error(), Credential: said}
	}
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	c.world.used = append(c.world.used, said.Identity)
	c.world.sent = append(c.world.sent, time.Now())
	c.world.mu.Unlock()
	pass(c.world.slow)
	c.world.mu.Lock()
	reply := c.world.refusal
	if c.world.accepted[said.Identity] {
		reply = granted("by-"+said.Identity, time.Hour)
	}
	reply.Credential = said
	return reply, nil
}

func (c credentialFile) Check(context.Context, bool) (provider.Credential, []provider.Problem, error) {
	said, err := c.read()
	return said, nil, err
}

func (c credentialFile) Close() {}

func (c credentialFile) read() (provider.Credential, error) {
	said := provider.Credential{Files: []string{c.path}}
	data, err := os.ReadFile(c.path)
	if err == nil && len(data) == 0 {
		err = errors.New("it is empty")
	}
	said.Identity = string(data)
	return said, err
}

func (w *twofold) inUse() status.Credential { return w.agent.Status().Clients[0].InUse() }

func TestFallbackTakesOverAtOnceAndStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwofold(t, "fallback")
		defer w.run(t.Context())()
		pass(2 * time.Second)
		used, _ := w.log()
		if got := strings.Join(used, " "); got != "primary fallback fallback" {
			t.Errorf("requests with %q, want one refused and one for each token", got)
		}
		if !w.agent.Status().Ready || w.inUse().Name != status.Fallback {
			t.Errorf("status %+v", w.agent.Status().Clients[0])
		}
		w.accept("primary", "fallback") // the first is good again, but its file is what it was
		pass(time.Hour)
		used, _ = w.log()
		if got := strings.Join(used[3:], " "); strings.Contains(got, "primary") || got == "" {
			t.Errorf("later requests with %q, want the fallback only", got)
		}
	})
}

func TestRotatedPrimaryTakesOverFromTheFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwofold(t, "fallback")
		defer w.run(t.Context())()
		pass(time.Minute)
		w.accept("second", "fallback")
		replace(t, filepath.Join(w.dir, "primary"), "second")
		pass(time.Minute)
		used, _ := w.log()
		if got := strings.Join(used[3:], " "); got != "second" {
			t.Errorf("requests after the rotation with %q, want one proof", got)
		}
		if in := w.inUse(); in.Name != status.Primary || in.Identity != "second" || in.Problem != "" {
			t.Errorf("in use is %+v", in)
		}
	})
}

func TestRefusedProofKeepsTheTokenAndFallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwofold(t, "primary", "fallback")
		defer w.run(t.Context())()
		pass(time.Minute)
		replace(t, filepath.Join(w.dir, "primary"), "unknown")
		pass(time.Minute)
		used, _ := w.log()
		if got := strings.Join(used, " "); got != "primary primary unknown fallback" {
			t.Errorf("requests with %q, want one refused", got)
		}
		s := w.agent.Status()
		if problem := s.Clients[0].Credentials[0].Problem; !s.Ready || !strings.Contains(problem, "invalid_client") {
			t.Errorf("ready %v, the first credential's problem is %q", s.Ready, problem)
		}
	})
}

func TestUnloadablePrimaryFallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwofold(t, "primary", "fallback")
		putFile(t, filepath.Join(w.dir, "primary"), "")
		defer w.run(t.Context())()
		pass(2 * time.Second)
		if used, _ := w.log(); strings.Join(used, " ") != "fallback fallback" {
			t.Errorf("requests with %q", used)
		}
	})
}

func TestBothRefusedAreProbedSlowlyInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwofold(t)
		defer w.run(t.Context())()
		pass(time.Hour)
		used, sent := w.log()
		if len(used) < 6 || len(used) > 40 {
			t.Fatalf("%d requests within an hour: %q", len(used), used)
		}
		quick := 0
		for i, at := range sent[1:] {
			if at.Sub(sent[i]) < policy.MinProbe {
				quick++
			}
		}
		if quick != 1 || strings.Join(used[:4], " ") != "primary fallback primary fallback" {
			t.Errorf("requests with %q, %d at once; want the two in turn, and only the first fallback at once", used, quick)
		}
		w.accept("other")
		replace(t, filepath.Join(w.dir, "fallback"), "other")
		pass(time.Minute)
		if !w.agent.Status().Ready || w.inUse().Name != status.Fallback {
			t.Errorf("the fallback that is good now is not in use: %+v", w.agent.Status().Clients[0])
		}
	})
}

func TestRetryAfterHoldsTheFallbackBackToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwofold(t, "fallback")
		w.refusal = refusal(http.StatusUnauthorized, "invalid_client", "120")
		defer w.run(t.Context())()
		pass(119 * time.Second)
		if used, _ := w.log(); len(used) != 1 {
			t.Errorf("requests with %q before the Retry-After was over", used)
		}
	})
}

// A client that is replaced while its first credential is being refused does not hand the switch on:
// the new one must not ask with the refused credential again at once.
func TestReplacedClientDoesNotSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwofold(t, "fallback")
		w.slow = time.Second
		defer w.run(t.Context())()
		pass(w.slow / 2) // the first request is under way
		cfg := w.changed(func(cfg *config.Config) {
			cfg.Clients[0].Name = "renamed"
			for i := range cfg.Tokens {
				cfg.Tokens[i].Client = "renamed"
			}
		})
		if err := w.agent.Reload(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		pass(4 * time.Second)
		if used, _ := w.log(); strings.Join(used, " ") != "primary" {
			t.Errorf("requests with %q within seconds of the refusal", used)
		}
		pass(10 * time.Second)
		if !w.agent.Status().Ready {
			t.Error("no token by the new client's fallback")
		}
	})
}

// The tokens of one client each remember which of its credentials was in use. After a restart the
// record that was saved last decides, whichever token it is of.
func TestNewestRecordDecidesAboutTheFallback(t *testing.T) {
	for name, tt := range map[string]struct{ newest, older string }{
		"the first by name": {"a", "b"}, "the last by name": {"b", "a"},
	} {
		for choice, want := range map[policy.Choice]string{{Fallback: true}: status.Fallback, {}: status.Primary} {
			t.Run(name+" used the "+want, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newTwofold(t, "primary", "fallback")
					m := newMemory()
					w.memory = m
					w.make(w.agent.parts.config(), nil)
					stop := w.run(t.Context())
					pass(time.Minute)
					stop()
					for token, saved := range map[string]struct {
						used policy.Choice
						ago  time.Duration
					}{tt.newest: {choice, 0}, tt.older: {policy.Choice{Fallback: !choice.Fallback}, time.Second}} {
						m.change(token, func(r *store.Record) {
							r.Credential.Files = filewatch.Fingerprint([]string{filepath.Join(w.dir, "primary")}) // it is as it was
							r.Credential.Choice, r.SavedAt = saved.used, time.Now().Add(-saved.ago)
						})
					}

					next := w.successor(&server{}, same)
					defer next.run(t.Context())()
					pass(time.Second)
					if got := next.agent.Status().Clients[0].InUse().Name; got != want {
						t.Errorf("in use is %q, want %q", got, want)
					}
				})
			})
		}
	}
}
