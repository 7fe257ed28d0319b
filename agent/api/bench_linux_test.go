package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/internal/peer"
	"github.com/credagent/credagent/internal/secret"
)

const (
	benchHeader   = "bench-header-0123456789abcdefghijklmnop"
	benchResource = "https://graph.microsoft.com"
	benchTarget   = IdentityPath + "?api-version=2019-08-01&resource=https%3A%2F%2Fgraph.microsoft.com"
)

// benchToken is as long as those that Entra ID issues.
var benchToken = strings.Repeat("eyJ0eXAiOiJKV1Qi", 100)

// steady is a provider that answers at once, until it is told to hang.
type steady struct {
	hang   chan struct{} // closed from when on
	hanged chan struct{} // told when it does
}

func (s *steady) Exchange(ctx context.Context, r provider.Request) (provider.Reply, error) {
	select {
	case <-s.hang:
		s.hanged <- struct{}{}
		<-ctx.Done()
		return provider.Reply{}, ctx.Err()
	default:
	}
	body := fmt.Appendf(nil, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, benchToken)
	return provider.Reply{Status: http.StatusOK, Header: http.Header{}, Body: body}, nil
}

func (*steady) Check(context.Context, bool) (provider.Credential, []provider.Problem, error) {
	return provider.Credential{}, nil, nil
}

func (*steady) Close() {}

// steadyAgent runs an agent with so many tokens, each of a client of its own, of which the first serves
// the resource. It returns when all of them are there.
func steadyAgent(t testing.TB, tokens int) (*agent.Agent, *steady) {
	t.Helper()
	cfg := &config.Config{Source: "test", Socket: &config.Socket{}, Identity: &config.IdentityEndpoint{TokenFor: map[string]string{benchResource: "t0"}}}
	for i := range tokens {
		name := fmt.Sprintf("t%d", i)
		cfg.Clients = append(cfg.Clients, config.Client{Name: name, TokenURL: "https://login.example.com/token", ClientID: name, RequestTimeout: time.Minute})
		cfg.Tokens = append(cfg.Tokens, config.Token{
			Name: name, Client: name, Scopes: []string{"read"}, RefreshAt: 0.5, Allow: []config.Principal{{User: "61001"}, {Group: "62001"}},
		})
		cfg.Identity.TokenFor[fmt.Sprintf("https://%d.example.com", i)] = name
	}
	p := &steady{hang: make(chan struct{}), hanged: make(chan struct{}, 1)}
	a := agent.New(agent.Options{
		Config: cfg, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Provider: func(provider.Spec) agent.Provider { return p },
	})
	if err := a.ResolveAccess(); err != nil {
		t.Fatal(err)
	}
	running(t, a)
	return a, p
}

// running runs an agent for as long as the test, and returns when all its tokens are there.
func running(t testing.TB, a *agent.Agent) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { a.Run(ctx) })
	t.Cleanup(func() { cancel(); ended.Wait() })
	for !a.Status().Ready {
		<-a.Changes()
	}
}

// refreshing has a refresh of the agent's first token in flight from now on.
func refreshing(b *testing.B, a *agent.Agent, p *steady) {
	b.Helper()
	close(p.hang)
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	go func() { _, _ = a.Refresh(ctx, "t0") }()
	<-p.hanged
}

// server is one that gives a token away: how to reach it, and what to ask.
type server struct {
	by      string
	client  *http.Client
	request *http.Request
}

// compare measures servers that give the same token away, by their names.
func compare(b *testing.B, servers ...server) {
	for _, s := range servers {
		b.Run("by="+s.by, s.measure)
	}
}

const (
	askers = 8  // at once
	calls  = 25 // of each, in a round
)

// measure has callers ask all at once, round after round. Their own processor time counts too: it is
// the same for every server.
func (s server) measure(b *testing.B) {
	s.client.Transport.(*http.Transport).MaxIdleConnsPerHost = askers
	defer s.client.CloseIdleConnections()
	s.round(b) // connects
	var took []time.Duration
	b.ReportAllocs()
	spent := cpuTime(b)
	for b.Loop() {
		took = append(took, s.round(b)...)
	}
	spent = cpuTime(b) - spent
	slices.Sort(took)
	b.ReportMetric(float64(spent)/float64(len(took)), "cpu-ns/request")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "requests/s")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
}

func (s server) round(b *testing.B) []time.Duration {
	took := make([][]time.Duration, askers)
	var calling sync.WaitGroup
	for i := range took {
		calling.Go(func() {
			for range calls {
				asked := time.Now()
				if err := s.call(); err != nil {
					b.Error(err)
				}
				took[i] = append(took[i], time.Since(asked))
			}
		})
	}
	calling.Wait()
	return slices.Concat(took...)
}

func (s server) call() error {
	response, err := s.client.Do(s.request.Clone(context.Background()))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK || int(n) < len(benchToken) {
		return fmt.Errorf("%s with %d bytes: %w", response.Status, n, err)
	}
	return err
}

func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// bare gives an answer's bytes and header with as little as net/http takes.
func bare(b *testing.B, listener net.Listener, answer *httptest.ResponseRecorder) {
	b.Helper()
	body := answer.Body.Bytes()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		_, _ = w.Write(body)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	b.Cleanup(func() { _ = server.Close(); serving.Wait() })
}

// recordedAnswer is a handler's answer, for a bare server to repeat.
func recordedAnswer(b *testing.B, handler http.Handler, request *http.Request) *httptest.ResponseRecorder {
	b.Helper()
	w := httptest.NewRecorder()
	if handler.ServeHTTP(w, request); w.Code != http.StatusOK {
		b.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w
}

func listenAt(b *testing.B, network, address string) net.Listener {
	b.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		b.Fatal(err)
	}
	return listener
}

// BenchmarkToken measures a token's way over the socket, with one token and with a thousand, beside
// the same bytes from a bare net/http server; and while a refresh is in flight beside when none is.
func BenchmarkToken(b *testing.B) {
	socket := func(by string, a *agent.Agent) server {
		file := SocketFile{Path: filepath.Join(b.TempDir(), "s"), Mode: 0o600}
		serveLocal(b, file, a)
		return server{by, overSocket(file.Path), httptest.NewRequest(http.MethodGet, "http://credagent/v1/tokens/t0", nil)}.outgoing()
	}
	one, _ := steadyAgent(b, 1)
	many, _ := steadyAgent(b, 1000)
	busy, p := steadyAgent(b, 1)
	refreshing(b, busy, p)
	path := filepath.Join(b.TempDir(), "s")
	plain := server{"bare", overSocket(path), httptest.NewRequest(http.MethodGet, "http://credagent/v1/tokens/t0", nil)}.outgoing()
	bare(b, listenAt(b, "unix", path), recordedAnswer(b, Local(one, ownerUser, slog.New(slog.DiscardHandler)), allowedRequest()))
	b.Run("tokens=1", func(b *testing.B) { compare(b, socket("credagent", one), plain) })
	b.Run("tokens=1000", func(b *testing.B) { compare(b, socket("credagent", many), plain) })
	b.Run("refresh=under-way", func(b *testing.B) { compare(b, socket("credagent", busy), socket("idle", one)) })
}

// BenchmarkIdentity is [BenchmarkToken] for the identity endpoint.
func BenchmarkIdentity(b *testing.B) {
	handler := func(a *agent.Agent) http.Handler {
		return Identity(a, secret.New(benchHeader), slog.New(slog.DiscardHandler))
	}
	at := func(by string, listener net.Listener) server {
		request := identityRequest()
		request.URL.Host = listener.Addr().String()
		return server{by, &http.Client{Transport: &http.Transport{}}, request}.outgoing()
	}
	endpoint := func(by string, a *agent.Agent) server {
		listener := listenAt(b, "tcp", "127.0.0.1:0")
		ctx, cancel := context.WithCancel(context.Background())
		var serving sync.WaitGroup
		serving.Go(func() { _ = Serve(ctx, listener, handler(a), slog.New(slog.DiscardHandler)) })
		b.Cleanup(func() { cancel(); serving.Wait() })
		return at(by, listener)
	}
	one, _ := steadyAgent(b, 1)
	many, _ := steadyAgent(b, 1000)
	busy, p := steadyAgent(b, 1)
	refreshing(b, busy, p)
	listener := listenAt(b, "tcp", "127.0.0.1:0")
	bare(b, listener, recordedAnswer(b, handler(one), identityRequest()))
	b.Run("tokens=1", func(b *testing.B) { compare(b, endpoint("credagent", one), at("bare", listener)) })
	b.Run("tokens=1000", func(b *testing.B) { compare(b, endpoint("credagent", many), at("bare", listener)) })
	b.Run("refresh=under-way", func(b *testing.B) { compare(b, endpoint("credagent", busy), endpoint("idle", one)) })
}

// outgoing makes a request that a handler could get one that a client can send.
func (s server) outgoing() server {
	s.request.RequestURI = ""
	return s
}

func identityRequest() *http.Request {
	request := httptest.NewRequest(http.MethodGet, "http://localhost"+benchTarget, nil)
	request.Header.Set("X-IDENTITY-HEADER", benchHeader)
	return request
}

// allowedRequest is one of somebody whom the configuration allows the first token.
func allowedRequest() *http.Request {
	request := httptest.NewRequest(http.MethodGet, "http://credagent/v1/tokens/t0", nil)
	caller := peer.Peer{UID: strangeUser, GIDs: []int{strangeGroup, allowedGroup}}
	return request.WithContext(withConn(request.Context(), &peerConn{peer: caller}))
}

// TestServingAllocatesAlike: what an answer costs does not depend on how many tokens there are.
func TestServingAllocatesAlike(t *testing.T) {
	for name, tc := range map[string]struct {
		handler func(*agent.Agent) http.Handler
		request *http.Request
	}{
		"socket": {func(a *agent.Agent) http.Handler { return Local(a, ownerUser, slog.New(slog.DiscardHandler)) }, allowedRequest()},
		"identity": {func(a *agent.Agent) http.Handler {
			return Identity(a, secret.New(benchHeader), slog.New(slog.DiscardHandler))
		}, identityRequest()},
	} {
		t.Run(name, func(t *testing.T) {
			measure := func(tokens int) float64 {
				a, _ := steadyAgent(t, tokens)
				handler := tc.handler(a)
				return testing.AllocsPerRun(200, func() {
					w := httptest.NewRecorder()
					if handler.ServeHTTP(w, tc.request); w.Code != http.StatusOK {
						t.Fatalf("status %d: %s", w.Code, w.Body)
					}
				})
			}
			if few, many := measure(1), measure(300); many > few+1 { // a pool may be empty now and then
				t.Errorf("%v allocations with one token, %v with 300", few, many)
			}
		})
	}
}
