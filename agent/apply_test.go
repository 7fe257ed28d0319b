package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/gate"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/signals"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/sink"
)

// program is an agent that is embedded: it has no file, and everything is applied.
type program struct {
	*fixture
	server *server
}

// newProgram makes an agent of nothing. Any sink opens, in memory.
func newProgram(answer func(int, arrival) (provider.Reply, error)) *program {
	p := &program{fixture: newFixture(nil), server: &server{answer: answer}}
	p.fixture.agent = newAgent(Options{
		Provider: func(provider.Spec) Provider { return &scripted{answer: p.server.exchange} },
		Sink: func(cfg config.Sink) (Sink, error) {
			if strings.HasSuffix(cfg.Path, "refused") {
				return nil, errors.New("it cannot be opened")
			}
			m := &memory{path: cfg.Path, tokens: []string{cfg.Token}}
			p.sinks[cfg.Path] = m
			return m, nil
		},
	}, p.machine())
	if err := p.agent.Open(); err != nil {
		panic(err)
	}
	return p
}

func clientOf(name, id string) config.Client {
	return config.Client{
		Name: name, ClientID: id, TokenURL: "https://login.example.com/token", Credential: config.Credential{Provider: "secretcred"},
	}
}

func tokenOf(name, client string) config.Token {
	return config.Token{Name: name, Client: client, Scopes: []string{"scope-" + name}}
}

func sinkOf(name string) config.Sink {
	return config.Sink{Type: config.SinkFile, Path: "/" + name, Token: name}
}

func (p *program) apply(t *testing.T, changes ...Change) {
	t.Helper()
	for _, c := range changes {
		if err := p.agent.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestApplyAddsChangesAndRemoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(good)
		defer p.run(t.Context())()
		own := &memory{path: "own", tokens: []string{"a"}}
		p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")), SetSink(sinkOf("a")), AttachSink(own))
		pass(time.Second)
		if p.sinks["/a"].held("a").AccessToken.IsZero() || own.held("a").AccessToken.IsZero() {
			t.Fatal("the sinks do not hold the token")
		}
		if s := p.agent.Status(); !s.Ready || s.Tokens[0].RefreshAt == nil {
			t.Errorf("status %+v", s)
		}
		other := tokenOf("a", "c")
		other.Scopes = []string{"scope-other"}
		p.apply(t, SetToken(other))
		pass(time.Second)
		if got := p.server.requests(); len(got) != 2 || got[1].token != "other" {
			t.Errorf("requests %v, want one more with the other scope", got)
		}
		p.apply(t, RemoveSink("own"), RemoveSink("/a"), RemoveToken("a"), RemoveClient("c"), RemoveClient("c"))
		if s := p.agent.Status(); len(s.Tokens)+len(s.Clients)+len(s.Sinks) != 0 {
			t.Errorf("what is left: %+v", s)
		}
		if _, err := p.agent.Token("a"); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("the removed token: %v", err)
		}
		if left := p.agent.gates.All(); len(left) != 0 {
			t.Errorf("%d gates are left", len(left))
		}
		pass(2 * time.Hour)
		if got := p.server.requests(); len(got) != 2 {
			t.Errorf("%d requests, want none after the end", len(got)-2)
		}
	})
}

func TestApplyRefusesOneObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(good)
		defer p.run(t.Context())()
		p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")), SetSink(sinkOf("a")))
		pass(time.Second)
		entra := config.Client{Name: "c", ClientID: "id", Entra: &config.Entra{Tenant: "contoso.com"}, Credential: config.Credential{Provider: "secretcred"}}
		refused := sinkOf("a")
		refused.Path = "/refused"
		before := p.agent.parts.list()
		for _, test := range []struct {
			name   string
			change Change
			want   string
		}{
			{"a client of no credential", SetClient(config.Client{Name: "d", ClientID: "id", TokenURL: "https://x.example.com"}), "clients.d: missing key \"credential\""},
			{"a client at which a token's scopes are none", SetClient(entra), "tokens.a.scopes"},
			{"a token of no client", SetToken(tokenOf("b", "missing")), "unknown client \"missing\""},
			{"a token without a name", SetToken(tokenOf("", "c")), "is not a name"},
			{"a sink of no token", SetSink(sinkOf("missing")), "unknown token \"missing\""},
			{"a sink of our own of no token", AttachSink(&memory{path: "x", tokens: []string{"a", "missing"}}), "unknown token \"missing\""},
			{"a sink that does not open", SetSink(refused), "it cannot be opened"},
			{"the end of a client that is in use", RemoveClient("c"), "token \"a\" is still issued to it"},
			{"the end of a token that is in use", RemoveToken("a"), "sink \"/a\" still shows it"},
		} {
			var problems *config.Error
			if err := p.agent.Apply(t.Context(), test.change); !errors.As(err, &problems) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
			}
		}
		if got := handedOut(&config.Config{Sidecar: &config.AuthSidecar{TokenFor: map[string]string{"Graph": "a"}}}, "a"); !strings.Contains(got, `"Graph"`) {
			t.Errorf("a token of the auth sidecar is free to go: %q", got)
		}
		p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")), SetSink(sinkOf("a")), RemoveToken("missing"), RemoveSink("missing"))
		if p.agent.parts.list() != before {
			t.Error("something changed")
		}
		if clients := p.agent.gates.Clients(); len(clients) != 1 {
			t.Errorf("%d clients are in the set of gates, want the one", len(clients))
		}
	})
}

func TestApplyBeforeTheStartAndAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(good)
		applied := make(chan error, 1)
		go func() { applied <- p.agent.Apply(t.Context(), SetClient(clientOf("c", "id"))) }()
		pass(time.Second)
		stop := p.run(t.Context())
		if err := <-applied; err != nil {
			t.Errorf("before the start: %v", err)
		}
		stop()
		if err := p.agent.Apply(t.Context(), RemoveClient("c")); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := newProgram(good).agent.Apply(ctx, RemoveClient("c")); !errors.Is(err, context.Canceled) {
			t.Errorf("before a start that never comes: %v", err)
		}
	})
}

// steps makes random changes of a small world. It keeps to what is allowed, and knows what each touches.
type steps struct {
	*program
	random *rand.Rand
}

// next returns a change, the tokens that it may affect, and the client whose gate it is about.
func (s *steps) next() (c Change, tokens []string, client string) {
	cfg := s.agent.parts.config()
	n := func(max int) int { return s.random.IntN(max) }
	client, name := fmt.Sprintf("c%d", n(3)), fmt.Sprintf("t%d", n(6))
	switch n(8) {
	case 0, 1:
		next := clientOf(client, []string{"one", "two"}[n(2)])
		next.RequestTimeout = time.Duration(5+n(2)) * time.Second
		return SetClient(next), nil, client
	case 2, 3, 4:
		next := tokenOf(name, client)
		next.Audience = []string{"", "x"}[n(2)]
		return SetToken(next), []string{name}, ""
	case 5:
		next := sinkOf(name)
		next.Group = []string{"", "5"}[n(2)]
		return SetSink(next), nil, ""
	case 6:
		return RemoveSink("/" + name), nil, ""
	}
	if slices.ContainsFunc(cfg.Tokens, func(t config.Token) bool { return t.Client == client }) {
		return RemoveToken(name), []string{name}, ""
	}
	return RemoveClient(client), nil, client
}

// waits are all waits of our own.
type waits struct {
	attempts map[string]policy.Attempts
	tokens   map[string]gate.Key
	gates    map[gate.Key]policy.Gate
}

func (p *program) waits() waits {
	w := waits{map[string]policy.Attempts{}, map[string]gate.Key{}, map[gate.Key]policy.Gate{}}
	for _, t := range p.agent.parts.list().tokens {
		w.attempts[t.name()], w.tokens[t.name()] = t.keeper.View().Attempts, t.client.client.Gate().Key()
	}
	for _, g := range p.agent.gates.All() {
		w.gates[g.Key()] = *g.View()
	}
	return w
}

// moody is a server at which one client is down, one token is refused, and the rest is well.
func moody(n int, a arrival) (provider.Reply, error) {
	switch {
	case a.client == "two":
		return refusal(http.StatusServiceUnavailable, "", ""), nil
	case a.token == "t1" || a.token == "t4":
		return refusal(http.StatusBadRequest, "invalid_scope", ""), nil
	}
	return good(n, a)
}

// TestApplyIsAReloadOfOneObject: what many changes, one at a time, come to is what a reload of their
// outcome does; and no change ends a wait of anything else.
func TestApplyIsAReloadOfOneObject(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &steps{newProgram(moody), rand.New(rand.NewPCG(seed, 1))}
				defer s.run(t.Context())()
				made := 0
				for range 60 {
					pass(time.Duration(s.random.IntN(20_000)) * time.Millisecond)
					synctest.Wait()
					c, tokens, client := s.next()
					before := s.waits()
					if s.agent.Apply(t.Context(), c) == nil {
						made++
					}
					s.keptWaits(t, before, tokens, client)
					s.agent.consistent(t)
				}
				if made < 20 {
					t.Fatalf("only %d changes were made", made)
				}
				final := *s.agent.parts.config()
				whole := newProgram(moody)
				defer whole.run(t.Context())()
				if err := whole.agent.Reload(t.Context(), &final); err != nil {
					t.Fatal(err)
				}
				whole.agent.consistent(t)
				pass(6 * time.Hour)
				if a, b := s.essence(), whole.essence(); !reflect.DeepEqual(a, b) {
					t.Errorf("one at a time:\n%+v\nat once:\n%+v", a, b)
				}
			})
		})
	}
}

// keptWaits compares the waits of all that a change is not about with what they were.
func (p *program) keptWaits(t *testing.T, before waits, tokens []string, client string) {
	t.Helper()
	touched := map[gate.Key]bool{}
	if c := p.agent.parts.client(client); c != nil {
		touched[c.client.Gate().Key()] = true
	}
	after := p.waits()
	for name, was := range before.attempts {
		key := before.tokens[name]
		if slices.Contains(tokens, name) || touched[key] || touched[after.tokens[name]] || key != after.tokens[name] {
			continue
		}
		if now := after.attempts[name]; !now.RetryAt.Equal(was.RetryAt) || now.Failures != was.Failures {
			t.Errorf("the waits of token %s changed from %+v to %+v", name, was, now)
		}
	}
	for key, was := range before.gates {
		if now, there := after.gates[key]; there && !touched[key] && now.OpensAt().Before(was.OpensAt()) {
			t.Errorf("the wait of client_id %s ended: it was %+v and is %+v", key.ClientID, was, now)
		}
	}
}

// essence is what two agents of one configuration have in common after a while, whatever their dice.
func (p *program) essence() any {
	s := p.agent.Status()
	type tokenEssence struct {
		name, client, scope, outcome string
		valid                        bool
	}
	var tokens []tokenEssence
	for _, t := range s.Tokens {
		tokens = append(tokens, tokenEssence{t.Name, t.Client, t.Scope, t.LastOutcome, t.Valid})
	}
	var clients []string
	for _, c := range s.Clients {
		clients = append(clients, c.Name+" "+c.ClientID+" "+c.TokenEndpoint)
	}
	var sinks []string
	for _, sink := range s.Sinks {
		sinks = append(sinks, fmt.Sprintf("%s %v %v", sink.Path, sink.Tokens, sink.Holds))
	}
	cfg := p.agent.parts.config()
	return []any{tokens, clients, sinks, s.NotReady, cfg.Clients, cfg.Tokens, cfg.Sinks}
}

// consistent compares what is kept twice in the parts.
func (a *Agent) consistent(t *testing.T) {
	t.Helper()
	p, list, inSet := a.parts, a.parts.list(), a.gates.Clients()
	p.mu.RLock()
	defer p.mu.RUnlock()
	ofClient, showing := 0, 0
	for _, c := range list.clients {
		ofClient += len(c.tokens)
		if !slices.Contains(inSet, c.client) {
			t.Errorf("client %s is not in the set of gates", c.name())
		}
	}
	for _, token := range list.tokens {
		if c := p.clients[token.cfg.Client]; c != token.client || c.tokens[token.at] != token {
			t.Errorf("token %s is not found by its client", token.name())
		}
	}
	for _, s := range list.sinks {
		for _, name := range s.sink.Tokens() {
			if !slices.Contains(p.shows[name], s) {
				t.Errorf("sink %s is not found by token %s", s.path(), name)
			}
		}
	}
	for _, writers := range p.shows {
		showing += len(writers)
	}
	if ofClient != len(list.tokens) || showing != len(list.sinks) || len(inSet) != len(list.clients) {
		t.Errorf("%d of %d tokens, %d of %d sinks, %d of %d clients",
			ofClient, len(list.tokens), showing, len(list.sinks), len(inSet), len(list.clients))
	}
}

// TestReloadAsksNoClientAgainThatIsTheSame counts the questions to providers.
func TestReloadAsksNoClientAgainThatIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := map[string]int{}
		p := newProgram(good)
		p.agent.options.Provider = func(spec provider.Spec) Provider {
			return &scripted{answer: p.server.exchange, check: func() (provider.Credential, error) {
				asked[spec.Client]++
				return provider.Credential{Files: []string{"/credential"}}, nil
			}}
		}
		defer p.run(t.Context())()
		p.apply(t, SetClient(clientOf("a", "1")), SetClient(clientOf("b", "2")), SetToken(tokenOf("x", "b")))
		next := *p.agent.parts.config()
		next.Clients = slices.Clone(next.Clients)
		next.Clients[0].RequestTimeout = 7 * time.Second
		if err := p.agent.Reload(t.Context(), &next); err != nil {
			t.Fatal(err)
		}
		if asked["a"] != 2 || asked["b"] != 1 {
			t.Errorf("asked %v, want the one that changed once more", asked)
		}
		bad := next
		bad.Sinks = []config.Sink{{Type: config.SinkFile, Path: "/credential", Token: "x", Place: "sinks[0]"}}
		if err := p.agent.Reload(t.Context(), &bad); err == nil {
			t.Error("a sink may be written over the credential of a client that is the same")
		}
	})
}

// TestApplyWritesOverNothingThatIsRead: neither a sink that comes where something is read or written, nor a
// client that reads what is written, by any spelling.
func TestApplyWritesOverNothingThatIsRead(t *testing.T) {
	dir := readFiles(t)
	reads := func(name string) config.Client {
		c := clientOf(name, name)
		c.CAFile = filepath.Join(dir, "ca")
		c.Credential.Config = fmt.Appendf(nil, `{"secret_file":%q,"assertion_file":%q}`, filepath.Join(dir, "secret"), filepath.Join(dir, "assertion"))
		return c
	}
	into := func(token, name string) Change {
		s := sinkOf(token)
		s.Path = filepath.Join(dir, name)
		return SetSink(s)
	}
	for name, tc := range map[string]struct {
		changes []Change // of which the last one is refused
		want    string   // "" where it is not refused
	}{
		"a sink over what the provider names":        {[]Change{SetClient(reads("b")), into("a", "beside")}, "which the provider of clients.b.credential reads"},
		"a sink over what the configuration names":   {[]Change{SetClient(reads("b")), into("a", "secret")}, "the same file as clients.b.credential.config.secret_file"},
		"a sink over that by another name":           {[]Change{SetClient(reads("b")), into("a", "link")}, "the same file as clients.b.credential.config.secret_file"},
		"a sink over certificates":                   {[]Change{SetClient(reads("b")), into("a", "ca")}, "the same file as clients.b.ca_file"},
		"a sink over the state's key":                {[]Change{into("a", "key")}, "the same file as state.key_file"},
		"a sink among the state":                     {[]Change{into("a", "state/a.age")}, "where the agent has files of its own"},
		"a sink over another one":                    {[]Change{into("a", "one"), into("a", "alias/one")}, "the same file as sinks["},
		"a sink that changes":                        {[]Change{into("a", "one"), SetSink(config.Sink{Type: config.SinkFile, Path: filepath.Join(dir, "one"), Token: "a", Format: sink.FormatJSON})}, ""},
		"a sink over the header's file":              {[]Change{into("a", "header")}, "the same file as identity_endpoint.header_file"},
		"a client that reads the agent's own header": {[]Change{SetClient(clientOf("b", "b")), SetClient(withFile("b", filepath.Join(dir, "header")))}, "the same file as clients.b.credential.config.secret_file"},
		"a client of what a sink writes":             {[]Change{into("a", "secret"), SetClient(reads("b"))}, "the same file as clients.b.credential.config.secret_file"},
		"a client whose provider reads that":         {[]Change{into("a", "beside"), SetClient(reads("b"))}, "which the provider of clients.b.credential reads"},
		"another's token as an assertion":            {[]Change{SetClient(reads("b")), into("a", "assertion")}, ""},
		"an assertion that comes after the token":    {[]Change{into("a", "assertion"), SetClient(reads("b"))}, ""},
		"the own token as an assertion":              {[]Change{SetClient(reads("b")), SetToken(tokenOf("own", "b")), into("own", "assertion")}, "the same file as clients.b.credential.config.assertion_file"},
		"a sink over another's process file":         {[]Change{signalling(dir, "one"), into("a", "pid")}, "on_change[0].signal.pid_file"},
		"a sink that signals by what is written":     {[]Change{into("a", "pid"), signalling(dir, "one")}, "on_change[0].signal.pid_file"},
		"a sink that signals by what it writes":      {[]Change{signalling(dir, "pid")}, "on_change[0].signal.pid_file"},
		"a sink over the configuration":              {[]Change{into("a", "configuration")}, "this is the configuration itself"},
		"a sink over a provider's program":           {[]Change{SetClient(clientOf("c", "c")), into("a", "credagent-provider-secretcred")}, "clients.c.credential.provider"},
		"a sink beside all that":                     {[]Change{SetClient(reads("b")), into("a", "new")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgramIn(dir)
				defer p.run(t.Context())()
				p.apply(t, SetClient(clientOf("a", "a")), SetToken(tokenOf("a", "a")))
				last := len(tc.changes) - 1
				p.apply(t, tc.changes[:last]...)
				before := p.agent.parts.list()
				err := p.agent.Apply(t.Context(), tc.changes[last])
				var problems *config.Error
				switch {
				case tc.want == "" && err != nil:
					t.Error(err)
				case tc.want != "" && (!errors.As(err, &problems) || !strings.Contains(err.Error(), tc.want) || p.agent.parts.list() != before):
					t.Errorf("error %v, want one with %q, and no change", err, tc.want)
				}
			})
		})
	}
}

// signalling is a sink that signals the process of a file in the directory that it is in, too.
func signalling(dir, name string) Change {
	s := sinkOf("a")
	s.Path = filepath.Join(dir, name)
	s.OnChange = []config.Action{{Signal: &config.Signal{PIDFile: filepath.Join(dir, "pid"), Signal: "HUP"}}}
	return SetSink(s)
}

// readFiles makes a directory of files that are read, with a link to one of them and one to itself.
func readFiles(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"beside", "secret", "ca", "key", "assertion"} {
		putFile(t, filepath.Join(dir, name), name)
	}
	for link, to := range map[string]string{"link": "secret", "alias": "."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// newProgramIn makes an agent whose files are in a directory, as are those that the providers of all clients
// but a read.
func newProgramIn(dir string) *program {
	p := newProgram(good)
	settings := *config.Empty()
	settings.Source = filepath.Join(dir, "configuration")
	settings.Plugins.Dirs = []string{dir}
	settings.State = &config.State{Dir: filepath.Join(dir, "state"), KeyFile: filepath.Join(dir, "key")}
	settings.Identity = &config.IdentityEndpoint{HeaderFile: filepath.Join(dir, "header")}
	o := p.agent.options
	o.Config, o.Registry = &settings, nil
	o.Provider = func(spec provider.Spec) Provider {
		return &scripted{answer: p.server.exchange, check: func() (provider.Credential, error) {
			if spec.Client == "a" {
				return provider.Credential{}, nil
			}
			return provider.Credential{Files: []string{filepath.Join(dir, "beside"), filepath.Join(dir, "assertion")}}, nil
		}}
	}
	p.agent = newAgent(o, p.machine())
	return p
}

// withFile is a client whose configuration names a file.
func withFile(name, file string) config.Client {
	c := clientOf(name, name)
	c.Credential.Config = fmt.Appendf(nil, `{"secret_file":%q}`, file)
	return c
}

// TestRefusedClientsLeaveNoGate: one that comes again and again with another client_id must not fill the
// memory, however it is refused.
func TestRefusedClientsLeaveNoGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(good)
		p.agent.options.Provider = func(spec provider.Spec) Provider {
			if spec.Client == "unsound" {
				return &judge{problem: "no key"}
			}
			return &scripted{answer: p.server.exchange}
		}
		defer p.run(t.Context())()
		p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")))
		for i := range 20 {
			id := fmt.Sprint("id", i)
			if err := p.agent.Apply(t.Context(), SetClient(clientOf("unsound", id))); err == nil {
				t.Fatal("a client that its provider refuses is applied")
			}
			unfit := clientOf("c", id)
			unfit.TokenURL, unfit.Entra = "", &config.Entra{Tenant: "contoso.com"}
			if err := p.agent.Apply(t.Context(), SetClient(unfit)); err == nil {
				t.Fatal("a client is applied that does not suit its token")
			}
			if n := len(p.agent.gates.All()); n != 1 {
				t.Fatalf("%d gates, want that of the one client", n)
			}
			next := *p.agent.parts.config()
			next.Clients = append(slices.Clone(next.Clients), clientOf("unsound", id))
			if err := p.agent.Reload(t.Context(), &next); err == nil {
				t.Fatal("a client that its provider refuses is loaded")
			}
		}
		if n := len(p.agent.gates.All()); n != 1 {
			t.Errorf("after the reloads %d gates, want that of the one client", n)
		}
		p.agent.consistent(t)
	})
}

// TestMovedClientLeavesNoGate: its client_id is at another server now.
func TestMovedClientLeavesNoGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(good)
		defer p.run(t.Context())()
		for i := range 20 {
			moved := clientOf("c", "id")
			moved.TokenURL = fmt.Sprintf("https://login%d.example.com/token", i)
			p.apply(t, SetClient(moved))
		}
		for range 10 { // each time a few gates are looked at
			p.apply(t, SetClient(clientOf("d", "other")), RemoveClient("d"))
		}
		if n := len(p.agent.gates.All()); n != 1 {
			t.Errorf("%d gates, want that of the one client", n)
		}
	})
}

// TestRefusedClientLeavesTheWait: what the server asked for outlives a client that is refused.
func TestRefusedClientLeavesTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(func(int, arrival) (provider.Reply, error) {
			return refusal(http.StatusTooManyRequests, "", "3600"), nil
		})
		p.agent.options.Provider = func(spec provider.Spec) Provider {
			if spec.Client == "unsound" {
				return &judge{problem: "no key"}
			}
			return &scripted{answer: p.server.exchange}
		}
		defer p.run(t.Context())()
		p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")))
		pass(time.Second)
		p.apply(t, RemoveToken("a"), RemoveClient("c"))
		if err := p.agent.Apply(t.Context(), SetClient(clientOf("unsound", "id"))); err == nil {
			t.Fatal("a client that its provider refuses is applied")
		}
		p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")))
		pass(time.Minute)
		if n := len(p.server.requests()); n != 1 {
			t.Errorf("%d requests within the wait", n)
		}
	})
}

func TestUpdatesTellByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(good)
		defer p.run(t.Context())()
		p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")), SetToken(tokenOf("b", "c")))
		pass(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		told := make(chan string)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for name := range p.agent.Updates(ctx) {
				told <- name
			}
		}()
		if first, second := <-told, <-told; first != "a" || second != "b" {
			t.Errorf("it begins with %s and %s", first, second)
		}
		synctest.Wait()
		p.apply(t, RemoveToken("a"))
		if name := <-told; name != "a" {
			t.Errorf("told of %s after the end of a", name)
		}
		pass(24 * time.Hour) // nobody reads meanwhile
		if name := <-told; name != "b" {
			t.Errorf("told of %s, which is refreshed", name)
		}
		cancel()
		select {
		case <-told: // one that was on its way
		case <-ended:
		}
		<-ended
		if len(p.agent.observers.all) != 0 {
			t.Error("the observer stays behind")
		}
	})
}

func TestUpdatesEndWhenTheLoopDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(good)
		defer p.run(t.Context())()
		p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")))
		for range p.agent.Updates(t.Context()) {
			break
		}
		if len(p.agent.observers.all) != 0 {
			t.Error("the observer stays behind")
		}
	})
}

// TestStateIsUsedByATokenThatComesLater: an embedding program adds its tokens after the start.
func TestStateIsUsedByATokenThatComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := newMemory()
		for life := range 2 {
			p := newProgram(good)
			p.agent.options.Memory = state
			p.agent.restore()
			stop := p.run(t.Context())
			p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")))
			pass(time.Minute)
			if _, err := p.agent.Token("a"); err != nil {
				t.Error(err)
			}
			if n := len(p.server.requests()); n != 1-life {
				t.Errorf("%d requests in life %d", n, life)
			}
			stop()
		}
	})
}

func TestStrictNotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			name   string
			damage func(*remembering, bool)
			why    string
		}{
			{"fails", func(m *remembering, broken bool) {
				m.broken = nil
				if broken {
					m.broken = errNoSpace
				}
			}, errNoSpace.Error()},
			{"does not answer", func(m *remembering, broken bool) {
				if broken {
					m.hangs = make(chan struct{})
				} else {
					close(m.hangs)
					m.hangs = nil
				}
			}, "no answer within 2s"},
		} {
			state := newMemory()
			set := func(broken bool) {
				state.mu.Lock()
				defer state.mu.Unlock()
				test.damage(state, broken)
			}
			p := newProgram(good)
			o := p.agent.options
			o.Memory, o.StrictNotes, o.Registry = state, true, nil
			p.agent = newAgent(o, p.machine())
			set(true)
			stop := p.run(t.Context())
			p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")), SetToken(tokenOf("b", "c")))
			pass(time.Minute)
			if n := len(p.server.requests()); n != 0 {
				t.Errorf("memory %s: %d requests without a note", test.name, n)
			}
			got := p.agent.Status().Tokens[0]
			if got.LastOutcome != policy.Transient.String() || !strings.Contains(got.LastError, "could not be noted") || !strings.Contains(got.LastError, test.why) {
				t.Errorf("memory %s: outcome %s, error %q", test.name, got.LastOutcome, got.LastError)
			}
			if failures := p.agent.Status().Clients[0].Gate.Failures; failures != 0 {
				t.Errorf("memory %s: that is held against the server", test.name)
			}
			set(false)
			pass(5 * time.Minute)
			if s := p.agent.Status(); !s.Ready {
				t.Errorf("memory %s: not ready after it was mended: %+v", test.name, s.NotReady)
			}
			stop()
		}
	})
}

// Both places of the state keep streams of Shared Signals, too.
var _ = []signals.Memory{(*store.Store)(nil), (*store.Secret)(nil)}

// Where another agent keeps its records in the same place, nothing is asked for, strict notes or not.
func TestTakenMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := newMemory()
		state.broken = fmt.Errorf("saving: %w", &store.TakenError{Secret: "shop/state", By: "other"})
		p := newProgram(good)
		p.agent.options.Memory = state
		stop := p.run(t.Context())
		p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")))
		pass(10 * time.Minute)
		if n := len(p.server.requests()); n != 0 {
			t.Errorf("%d requests although another agent may send them", n)
		}
		if got := p.agent.Status().Tokens[0]; !strings.Contains(got.LastError, `another credagent, in pod "other"`) {
			t.Errorf("the token's error is %q", got.LastError)
		}
		stop()
	})
}

func TestStrictNotesWantAMemory(t *testing.T) {
	if err := New(Options{StrictNotes: true}).Open(); err == nil {
		t.Error("requests are to be noted nowhere")
	}
}

// TestApplyCostsTheSameAmongMany counts allocations, which a copy or a walk of the others would make more.
func TestApplyCostsTheSameAmongMany(t *testing.T) {
	cost := func(others int) float64 {
		p := newProgram(good)
		defer p.run(t.Context())()
		for i := range others {
			name := fmt.Sprintf("t%d", i)
			p.apply(t, SetClient(clientOf(name, name)), SetToken(tokenOf(name, name)), SetSink(sinkOf(name)))
		}
		i := 0
		return testing.AllocsPerRun(20, func() {
			i++
			other := clientOf("t0", "t0")
			other.RequestTimeout = time.Duration(5+i%2) * time.Second
			p.apply(t, SetClient(other), SetToken(tokenOf("new", "t0")), RemoveToken("new"))
		})
	}
	few, many := cost(2), cost(1000)
	if many > 1.5*few+100 {
		t.Errorf("%.0f allocations among 1000 clients, %.0f among two", many, few)
	}
}

// TestMetricsOfARemovedClientAreGone: clients that come and go must not leave ever more behind.
func TestMetricsOfARemovedClientAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(good)
		defer p.run(t.Context())()
		p.apply(t, SetClient(clientOf("c", "id")), SetToken(tokenOf("a", "c")))
		pass(time.Second)
		p.apply(t, RemoveToken("a"), RemoveClient("c"))
		families, err := p.agent.options.Registry.(*prometheus.Registry).Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, m := range family.GetMetric() {
				for _, label := range m.GetLabel() {
					if label.GetName() == "client" {
						t.Errorf("%s still has client %q", family.GetName(), label.GetValue())
					}
				}
			}
		}
		var text strings.Builder
		if err := p.agent.WriteMetrics(&text); err != nil || strings.Contains(text.String(), `"a"`) {
			t.Errorf("the token's metrics are still there: %v\n%s", err, text.String())
		}
	})
}
