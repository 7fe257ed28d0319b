package api_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/api"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/internal/secret"
)

const (
	benchHeader   = "bench-header-0123456789abcdefghijklmnop"
	benchResource = "https://graph.microsoft.com"
	benchBody     = `{"access_token":"%s","expires_on":"1790000000","resource":"` + benchResource + `","token_type":"Bearer","client_id":"app"}` + "\n"
	benchTarget   = api.IdentityPath + "?api-version=2019-08-01&resource=https%3A%2F%2Fgraph.microsoft.com"
)

// benchToken is as long as those that Entra ID issues.
var benchToken = strings.Repeat("eyJ0eXAiOiJKV1Qi", 100)

// slowProvider answers the first request of each token at once, and never a later one. Tokens live
// for an hour and are to be refreshed when refreshIn says.
type slowProvider struct {
	refreshIn int // seconds
	inFlight  chan struct{}

	mu   sync.Mutex
	seen map[string]bool
}

func (p *slowProvider) Exchange(ctx context.Context, r provider.Request) (provider.Reply, error) {
	if p.again(r.Form.Get("scope")) {
		p.inFlight <- struct{}{}
		<-ctx.Done()
		return provider.Reply{}, ctx.Err()
	}
	return provider.Reply{Status: http.StatusOK, Header: http.Header{}, Body: fmt.Appendf(nil,
		`{"access_token":%q,"token_type":"Bearer","expires_in":3600,"refresh_in":%d}`, benchToken, p.refreshIn)}, nil
}

func (p *slowProvider) again(scope string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.seen[scope]
	p.seen[scope] = true
	return seen
}

func (p *slowProvider) Check(context.Context, bool) (provider.Credential, []provider.Problem, error) {
	return provider.Credential{}, nil, nil
}

func (p *slowProvider) Close() {}

// runAgent runs an agent with so many tokens, of which the first serves the resource. It returns
// when all are there and, where a refresh is to be in flight, when it is.
func runAgent(b testing.TB, tokens int, refreshing bool) *agent.Agent {
	b.Helper()
	cfg := &config.Config{Source: "bench", Identity: &config.IdentityEndpoint{TokenFor: map[string]string{benchResource: "t0"}}}
	for i := range tokens {
		client := fmt.Sprintf("c%d", i)
		cfg.Clients = append(cfg.Clients, config.Client{Name: client, TokenURL: "https://login.example.com/" + client, ClientID: "app", RequestTimeout: time.Minute})
		cfg.Tokens = append(cfg.Tokens, config.Token{Name: fmt.Sprintf("t%d", i), Client: client, Scopes: []string{fmt.Sprintf("scope-%d", i)}, RefreshAt: 0.5})
		cfg.Identity.TokenFor[fmt.Sprintf("https://%d.example.com", i)] = fmt.Sprintf("t%d", i)
	}
	p := &slowProvider{refreshIn: 1800, inFlight: make(chan struct{}, tokens), seen: map[string]bool{}}
	if refreshing {
		p.refreshIn = 1
	}
	a := agent.New(agent.Options{
		Config: cfg, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Provider: func(provider.Spec) agent.Provider { return p },
	})
	running(b, a)
	if refreshing {
		<-p.inFlight
	}
	return a
}

// running runs an agent for as long as the test, and returns when all its tokens are there.
func running(b testing.TB, a *agent.Agent) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { a.Run(ctx) })
	b.Cleanup(func() { cancel(); ended.Wait() })
	for !a.Status().Ready {
		<-a.Changes()
	}
}

// serve serves a handler as the agent does, or as the simplest server would.
func serve(b *testing.B, handler http.Handler, bare bool) (address string) {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if bare {
			server := http.Server{Handler: handler}
			context.AfterFunc(ctx, func() { _ = server.Close() })
			_ = server.Serve(listener) // ends with the benchmark
			return
		}
		_ = api.Serve(ctx, listener, handler, slog.New(slog.DiscardHandler))
	}()
	b.Cleanup(func() { cancel(); <-ended })
	return listener.Addr().String()
}

// slice is how long callers ask one server before they turn to the other.
const slice = 100 * time.Millisecond

// compare has callers ask two servers in turn, so that both meet the same noise of the host. It
// reports how many requests a second the second serves as a share of the first's, and how the times
// compare that the slowest hundredth of them takes.
func compare(b *testing.B, addresses [2]string) {
	b.Helper()
	var mu sync.Mutex
	var took [2][]time.Duration
	b.SetParallelism(8)
	b.ResetTimer()
	begun := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		client := http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		var mine [2][]time.Duration
		for pb.Next() {
			asked := time.Now()
			i := int(asked.Sub(begun)/slice) % 2
			if err := askOnce(&client, addresses[i]); err != nil {
				b.Error(err)
				return
			}
			mine[i] = append(mine[i], time.Since(asked))
		}
		mu.Lock()
		defer mu.Unlock()
		took[0], took[1] = append(took[0], mine[0]...), append(took[1], mine[1]...)
	})
	b.StopTimer()
	first, second := turns(time.Since(begun))
	if len(took[1]) == 0 {
		return // too short a run to compare anything
	}
	perSecond, ofSecond := float64(len(took[0]))/first.Seconds(), float64(len(took[1]))/second.Seconds()
	b.ReportMetric(ofSecond, "req/s")
	b.ReportMetric(ofSecond/perSecond, "of-its-req/s")
	b.ReportMetric(float64(slowest(took[1]))/float64(slowest(took[0])), "of-its-p99")
}

// turns splits the time that has passed into what each server had of it.
func turns(passed time.Duration) (first, second time.Duration) {
	rounds, rest := passed/(2*slice), passed%(2*slice)
	return rounds*slice + min(rest, slice), rounds*slice + max(0, rest-slice)
}

// slowest is the time that one in a hundred takes at least.
func slowest(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100]
}

func askOnce(client *http.Client, address string) error {
	request, err := http.NewRequest(http.MethodGet, "http://"+address+benchTarget, nil)
	if err != nil {
		return err
	}
	request.Header.Set("X-IDENTITY-HEADER", benchHeader)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if want := len(fmt.Sprintf(benchBody, benchToken)); response.StatusCode != http.StatusOK || int(n) != want {
		return fmt.Errorf("%s with %d bytes, want %d: %w", response.Status, n, want, err)
	}
	return err
}

// BenchmarkIdentity compares the identity endpoint with a bare net/http server that gives the same
// bytes, with one token and with a thousand; and a refresh in flight with none.
func BenchmarkIdentity(b *testing.B) {
	body := fmt.Appendf(nil, benchBody, benchToken)
	bare := serve(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
			w.Header().Set(name, value)
		}
		_, _ = w.Write(body)
	}), true)
	identity := func(tokens int, refreshing bool) string {
		a := runAgent(b, tokens, refreshing)
		return serve(b, api.Identity(a, secret.New(benchHeader), slog.New(slog.DiscardHandler)), false)
	}
	one := identity(1, false)
	for _, tc := range []struct {
		name      string
		addresses [2]string
	}{
		{"bare/itself", [2]string{bare, bare}},
		{"bare/tokens=1", [2]string{bare, one}},
		{"bare/tokens=1000", [2]string{bare, identity(1000, false)}},
		{"idle/refreshing", [2]string{one, identity(1, true)}},
	} {
		b.Run(tc.name, func(b *testing.B) { compare(b, tc.addresses) })
	}
}

// TestIdentityAllocatesAlike: what an answer costs does not depend on how many tokens there are.
func TestIdentityAllocatesAlike(t *testing.T) {
	measure := func(tokens int) float64 {
		handler := api.Identity(runAgent(t, tokens, false), secret.New(benchHeader), slog.New(slog.DiscardHandler))
		request := httptest.NewRequest(http.MethodGet, "http://localhost"+benchTarget, nil)
		request.Header.Set("X-IDENTITY-HEADER", benchHeader)
		return testing.AllocsPerRun(100, func() {
			w := httptest.NewRecorder()
			if handler.ServeHTTP(w, request); w.Code != http.StatusOK {
				t.Fatal(w.Code)
			}
		})
	}
	if few, many := measure(1), measure(300); many > few+1 { // a pool may be empty now and then
		t.Errorf("%v allocations with one token, %v with 300", few, many)
	}
}
