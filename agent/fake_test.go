package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/delivery"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/internal/filewatch"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

// scripted is a provider and the server behind it: answer decides what comes back, and when.
type scripted struct {
	answer func(ctx context.Context, r provider.Request) (provider.Reply, error)
	check  func() (provider.Credential, error) // nil for a credential of no files
}

func (s *scripted) Exchange(ctx context.Context, r provider.Request) (provider.Reply, error) {
	return s.answer(ctx, r)
}

func (s *scripted) Check(context.Context, bool) (provider.Credential, []provider.Problem, error) {
	if s.check == nil {
		return provider.Credential{}, nil, nil
	}
	credential, err := s.check()
	return credential, nil, err
}

func (s *scripted) Close() {}

// memory is a sink without a file system.
type memory struct {
	path   string
	tokens []string
	fail   func() error // consulted before each write; nil never fails

	mu      sync.Mutex
	content map[string]token.Token // guarded by mu, as is writes
	writes  int
}

func (m *memory) Path() string     { return m.path }
func (m *memory) Tokens() []string { return m.tokens }

func (m *memory) Write(lookup sink.Lookup) (sink.Outcome, error) {
	if m.fail != nil {
		if err := m.fail(); err != nil {
			return sink.Unchanged, err
		}
	}
	next := map[string]token.Token{}
	for _, name := range m.tokens {
		t, ok := lookup(name)
		if !ok {
			return sink.Unchanged, &sink.MissingTokenError{Token: name}
		}
		next[name] = t
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	if maps.Equal(m.content, next) {
		return sink.Unchanged, nil
	}
	m.content = next
	return sink.Written, nil
}

func (m *memory) Mend(lookup sink.Lookup) (bool, error) { return m.Holds(lookup) }

func (m *memory) Holds(lookup sink.Lookup) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range m.tokens {
		if t, ok := lookup(name); !ok || t.AccessToken != m.content[name].AccessToken {
			return false, nil
		}
	}
	return true, nil
}

// Untouched never knows.
func (m *memory) Untouched() bool { return false }

// held returns what the sink shows of a token.
func (m *memory) held(name string) token.Token {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.content[name]
}

var errNoSpace = errors.New("no space left on device")

// sharedWaits are the waits of a host, in memory.
type sharedWaits struct {
	mu    sync.Mutex
	until map[string]time.Time // guarded by mu, as is turns
	turns map[string]bool      // whose turn is taken
}

func (w *sharedWaits) Turn(endpoint, clientID string) (done func(), taken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := endpoint + " " + clientID
	if w.turns[key] {
		return nil, false
	}
	if w.turns == nil {
		w.turns = map[string]bool{}
	}
	w.turns[key] = true
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.turns, key)
	}, true
}

func (w *sharedWaits) Until(endpoint, clientID string) (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.until[endpoint+" "+clientID], nil
}

func (w *sharedWaits) Extend(endpoint, clientID string, until time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if key := endpoint + " " + clientID; until.After(w.until[key]) {
		w.until[key] = until
	}
	return nil
}

// fixture is an agent with scripted providers and sinks in memory: one for each token.
type fixture struct {
	agent  *Agent
	sinks  map[string]*memory
	check  func() (provider.Credential, error) // for every provider
	watch  filewatch.Notifier                  // nil for none
	clock  clockWatch                          // nil for none
	log    *slog.Logger                        // nil for none
	random func(string) func() float64         // nil for chance itself
	memory Memory                              // nil for none
	act    func(path string) []delivery.Action // on a change of a sink's content; nil for nothing
	boot   func() time.Duration                // the clock since boot; nil for none
	waits  Waits                               // nil for none but the agent's own

	provide func(provider.Spec) Provider // nil for one that answers
}

// newFixture makes an agent of one client and the named tokens, all served by answer.
func newFixture(answer func(context.Context, provider.Request) (provider.Reply, error), tokens ...string) *fixture {
	cfg := &config.Config{Source: "test", Clients: []config.Client{{
		Name: "client", TokenURL: "https://login.example.com/token", ClientID: "id", RequestTimeout: 10 * time.Second,
	}}}
	f := &fixture{sinks: map[string]*memory{}}
	for _, name := range tokens {
		cfg.Tokens = append(cfg.Tokens, config.Token{Name: name, Client: "client", Scopes: []string{"scope-" + name}, RefreshAt: 0.5})
		cfg.Sinks = append(cfg.Sinks, config.Sink{Type: config.SinkFile, Path: "/" + name, Token: name})
		f.sinks[name] = &memory{path: "/" + name, tokens: []string{name}}
	}
	f.make(cfg, answer)
	return f
}

// remade is the fixture with another configuration and server.
func remade(f *fixture, s *server, cfg *config.Config) *fixture {
	f.make(cfg, s.exchange)
	return f
}

func (f *fixture) make(cfg *config.Config, answer func(context.Context, provider.Request) (provider.Reply, error)) {
	log, provide := f.log, f.provide
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if provide == nil {
		provide = func(provider.Spec) Provider { return &scripted{answer: answer, check: f.check} }
	}
	options := Options{
		Config:   cfg,
		Version:  "test",
		Log:      log,
		Registry: prometheus.NewRegistry(),
		Memory:   f.memory,
		Waits:    f.waits,
		Provider: provide,
		Sink:     f.open,
	}
	f.agent = newAgent(options, f.machine())
	if err := f.agent.Open(); err != nil {
		panic(err)
	}
}

// machine is what the fixture's agent takes for the machine it runs on.
func (f *fixture) machine() machine {
	random := f.random
	if random == nil {
		random = realMachine().random
	}
	return machine{
		random: random,
		sinceBoot: func() (time.Duration, bool) {
			if f.boot == nil {
				return 0, false
			}
			return f.boot(), true
		},
		actions: func(cfg config.Sink, _ Sink, _ sink.Lookup, _ *slog.Logger) []delivery.Action {
			if f.act == nil {
				return nil
			}
			return f.act(cfg.Path)
		},
		watch: func() (filewatch.Notifier, error) {
			if f.watch == nil {
				return nil, errors.New("there is none")
			}
			return f.watch, nil
		},
		clock: func() (clockWatch, error) {
			if f.clock == nil {
				return untold()
			}
			return f.clock, nil
		},
	}
}

func (f *fixture) open(cfg config.Sink) (Sink, error) {
	if m, ok := f.sinks[cfg.Token]; ok {
		return m, nil
	}
	return nil, errors.New("it cannot be opened")
}

// foreign stands for a token that somebody else put into a sink.
var foreign = secret.New("tampered")

// run runs the agent until the returned function is called.
func (f *fixture) run(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.agent.Run(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }

// granted is a token answer.
func granted(accessToken string, life time.Duration) provider.Reply {
	return provider.Reply{
		Status: http.StatusOK,
		Header: http.Header{},
		Body:   fmt.Appendf(nil, `{"access_token":%q,"token_type":"Bearer","expires_in":%d}`, accessToken, int(life.Seconds())),
	}
}

// refusal is an error answer, with a Retry-After unless that is empty.
func refusal(status int, code, retryAfter string) provider.Reply {
	reply := provider.Reply{Status: status, Header: http.Header{}, Body: fmt.Appendf(nil, `{"error":%q}`, code)}
	if retryAfter != "" {
		reply.Header.Set("Retry-After", retryAfter)
	}
	return reply
}
