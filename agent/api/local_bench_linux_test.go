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
)

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
	// As long as the tokens of Entra ID.
	body := fmt.Appendf(nil, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, strings.Repeat("eyJ0eXAiOiJKV1Qi", 100))
	return provider.Reply{Status: http.StatusOK, Header: http.Header{}, Body: body}, nil
}

func (*steady) Check(context.Context, bool) (provider.Credential, []provider.Problem, error) {
	return provider.Credential{}, nil, nil
}

func (*steady) Close() {}

// steadyAgent runs an agent with so many tokens, each of a client of its own, and returns when all
// of them are there.
func steadyAgent(t testing.TB, tokens int) (*agent.Agent, *steady) {
	t.Helper()
	cfg := &config.Config{Source: "test", Socket: &config.Socket{}}
	for i := range tokens {
		name := fmt.Sprintf("t%d", i)
		cfg.Clients = append(cfg.Clients, config.Client{Name: name, TokenURL: "https://login.example.com/token", ClientID: name, RequestTimeout: time.Minute})
		cfg.Tokens = append(cfg.Tokens, config.Token{
			Name: name, Client: name, Scopes: []string{"read"}, RefreshAt: 0.5, Allow: []config.Principal{{User: "61001"}, {Group: "62001"}},
		})
	}
	p := &steady{hang: make(chan struct{}), hanged: make(chan struct{}, 1)}
	a := agent.New(agent.Options{
		Config: cfg, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Provider: func(provider.Spec) agent.Provider { return p },
	})
	if err := a.ResolveAccess(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { a.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	for !a.Status().Ready {
		<-a.Changes()
	}
	return a, p
}

const (
	callersOfARound = 8
	callsOfARound   = 25 // of each caller
)

// measured is what rounds of calls to one server took.
type measured struct {
	client *http.Client
	rounds []time.Duration
	calls  []time.Duration
	cpu    time.Duration // of the callers and the server
}

// round has callers ask all at once.
func (m *measured) round(b *testing.B) {
	took := make([][]time.Duration, callersOfARound)
	began, spent := time.Now(), cpuTime(b)
	var calling sync.WaitGroup
	for i := range took {
		calling.Go(func() {
			for range callsOfARound {
				asked := time.Now()
				if err := getToken(m.client); err != nil {
					b.Error(err)
				}
				took[i] = append(took[i], time.Since(asked))
			}
		})
	}
	calling.Wait()
	m.rounds = append(m.rounds, time.Since(began))
	m.cpu += cpuTime(b) - spent
	m.calls = append(m.calls, slices.Concat(took...)...)
}

func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// inTurns has callers ask two sockets for a token, round by round, so that both meet the same noise of
// the machine. It reports how the second compares with the first: by the requests in a second of the
// median round, by the requests in a second of processor time, which is what counts where others use
// the machine too, and by the time that the slowest hundredth of the requests takes.
func inTurns(b *testing.B, sockets [2]string) {
	first, second := &measured{client: overSocket(sockets[0])}, &measured{client: overSocket(sockets[1])}
	for _, m := range []*measured{first, second} {
		m.client.Transport.(*http.Transport).MaxIdleConnsPerHost = callersOfARound
		defer m.client.CloseIdleConnections()
		m.round(b) // connects
		*m = measured{client: m.client}
	}
	for b.Loop() {
		first.round(b)
		second.round(b)
	}
	b.ReportMetric(float64(share(first.rounds, 50))/float64(share(second.rounds, 50)), "of-its-req/s")
	b.ReportMetric(float64(first.cpu)/float64(second.cpu), "of-its-req/cpu-s")
	b.ReportMetric(float64(share(second.calls, 99))/float64(share(first.calls, 99)), "of-its-p99")
}

// share is the time that a share of all, in hundredths, took at most.
func share(took []time.Duration, hundredths int) time.Duration {
	slices.Sort(took)
	return took[len(took)*hundredths/100]
}

func getToken(client *http.Client) error {
	response, err := client.Get("http://credagent/v1/tokens/t0")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK || n < 1600 {
		return fmt.Errorf("%s with %d bytes: %w", response.Status, n, err)
	}
	return err
}

// BenchmarkToken compares a token's way over the socket with the same bytes from a bare net/http
// server, with one token and with a thousand, and the first with itself; and how long it takes while
// a refresh is in flight with when none is.
func BenchmarkToken(b *testing.B) {
	socket := func(tokens int) (string, *agent.Agent, *steady) {
		a, p := steadyAgent(b, tokens)
		file := SocketFile{Path: filepath.Join(b.TempDir(), "s"), Mode: 0o600}
		serveLocal(b, file, a)
		return file.Path, a, p
	}
	one, a, _ := socket(1)
	many, _, _ := socket(1000)
	bare := bareServer(b, a)
	refreshing, second, p := socket(1)
	close(p.hang)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _, _ = second.Refresh(ctx, "t0") }()
	<-p.hanged
	for _, pair := range []struct {
		name    string
		sockets [2]string
	}{
		{"bare/bare", [2]string{bare, bare}},
		{"bare/tokens=1", [2]string{bare, one}},
		{"bare/tokens=1000", [2]string{bare, many}},
		{"idle/refreshing", [2]string{one, refreshing}},
	} {
		b.Run(pair.name, func(b *testing.B) { inTurns(b, pair.sockets) })
	}
}

// bareServer gives the bytes and header of an agent's token with as little as net/http takes.
func bareServer(b testing.TB, a *agent.Agent) (socket string) {
	b.Helper()
	body, err := a.TokenJSON("t0")
	if err != nil {
		b.Fatal(err)
	}
	socket = filepath.Join(b.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(body)
	})}
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(func() { _ = server.Close() })
	return socket
}

// TestTokenAllocatesAlike: what an answer costs does not depend on how many tokens there are.
func TestTokenAllocatesAlike(t *testing.T) {
	measure := func(tokens int) float64 {
		a, _ := steadyAgent(t, tokens)
		handler := Local(a, ownerUser, slog.New(slog.DiscardHandler))
		request := httptest.NewRequest(http.MethodGet, "http://credagent/v1/tokens/t0", nil)
		request = request.WithContext(withConn(request.Context(), &peerConn{peer: peer.Peer{UID: strangeUser, GIDs: []int{strangeGroup, allowedGroup}}}))
		return testing.AllocsPerRun(200, func() {
			w := httptest.NewRecorder()
			if handler.ServeHTTP(w, request); w.Code != http.StatusOK {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
		})
	}
	if few, many := measure(1), measure(300); many > few+1 { // a pool may be empty now and then
		t.Errorf("%v allocations with one token, %v with 300", few, many)
	}
}
