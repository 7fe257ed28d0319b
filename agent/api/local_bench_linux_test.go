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

// turn is how long callers ask one server before they turn to the other, so that both meet the
// same noise of the machine.
const turn = 100 * time.Millisecond

// inTurns has eight callers ask two sockets for a token, and reports how the second compares with the
// first: by requests in a second, and by the time that the slowest hundredth of them takes.
func inTurns(b *testing.B, sockets [2]string) {
	var mu sync.Mutex
	var took [2][]time.Duration
	b.SetParallelism(8)
	b.ResetTimer()
	begun := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		clients := [2]*http.Client{overSocket(sockets[0]), overSocket(sockets[1])}
		var mine [2][]time.Duration
		for pb.Next() {
			asked := time.Now()
			i := int(asked.Sub(begun)/turn) % 2
			if err := getToken(clients[i]); err != nil {
				b.Error(err)
				return
			}
			mine[i] = append(mine[i], time.Since(asked))
		}
		for i := range mine {
			clients[i].CloseIdleConnections()
		}
		mu.Lock()
		defer mu.Unlock()
		took[0], took[1] = append(took[0], mine[0]...), append(took[1], mine[1]...)
	})
	b.StopTimer()
	if len(took[0]) < 1000 || len(took[1]) < 1000 {
		return // too short a run to compare anything
	}
	b.ReportMetric(mean(took[0])/mean(took[1]), "of-its-req/s")
	b.ReportMetric(float64(slowHundredth(took[1]))/float64(slowHundredth(took[0])), "of-its-p99")
}

// mean is the time that a request takes; as many callers ask the one server as the other.
func mean(took []time.Duration) float64 {
	var sum time.Duration
	for _, d := range took {
		sum += d
	}
	return float64(sum) / float64(len(took))
}

func slowHundredth(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100]
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
