package api

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/internal/token"
	"github.com/credagent/credagent/sink"
)

// remembered is a memory with a good token of each name.
type remembered []string

func (m remembered) LoadAll() (map[string]store.Record, []error) {
	records := make(map[string]store.Record, len(m))
	for i, name := range m {
		form := url.Values{"grant_type": {"client_credentials"}, "scope": {name}}
		records[name] = store.Record{
			Binding: store.Binding{ClientID: fmt.Sprintf("c%d", i%10), Server: "https://login.example.com/token", Request: store.RequestHash(form)},
			Token: token.Token{
				AccessToken: secret.New(benchToken), TokenType: "Bearer", Scope: name,
				Expiry: time.Now().Add(24 * time.Hour), RefreshOn: time.Now().Add(12 * time.Hour),
			},
		}
	}
	return records, nil
}

func (remembered) Save(string, store.Record) error { return nil }
func (remembered) Remove(string) error             { return nil }

// noFile is a sink that is always as it should be.
type noFile struct{ path, token string }

func (f noFile) Path() string     { return f.path }
func (f noFile) Tokens() []string { return []string{f.token} }

func (f noFile) Write(lookup sink.Lookup) (sink.Outcome, error) {
	if _, ok := lookup(f.token); !ok {
		return sink.Unchanged, &sink.MissingTokenError{Token: f.token}
	}
	return sink.Unchanged, nil
}

func (f noFile) Holds(sink.Lookup) (bool, error) { return true, nil }
func (f noFile) Mend(sink.Lookup) (bool, error)  { return true, nil }
func (f noFile) Untouched() bool                 { return true }

// bigAgent runs an agent with so many tokens of ten clients, all of them there and in their sinks.
func bigAgent(b *testing.B, tokens int) (*agent.Agent, *prometheus.Registry) {
	b.Helper()
	cfg := &config.Config{Source: "bench"}
	for i := range 10 {
		name := fmt.Sprintf("c%d", i)
		cfg.Clients = append(cfg.Clients, config.Client{Name: name, TokenURL: "https://login.example.com/token", ClientID: name, RequestTimeout: time.Minute})
	}
	names := make(remembered, tokens)
	for i := range tokens {
		names[i] = fmt.Sprintf("token-%d", i)
		cfg.Tokens = append(cfg.Tokens, config.Token{Name: names[i], Client: fmt.Sprintf("c%d", i%10), Scopes: []string{names[i]}, RefreshAt: 0.5})
		cfg.Sinks = append(cfg.Sinks, config.Sink{Type: config.SinkFile, Path: "/run/credagent/" + names[i], Token: names[i]})
	}
	registry := prometheus.NewRegistry()
	a := agent.New(agent.Options{
		Config: cfg, Log: slog.New(slog.DiscardHandler), Registry: registry, Memory: names,
		Provider: func(provider.Spec) agent.Provider { return &steady{} },
		Sink:     func(cfg config.Sink) (agent.Sink, error) { return noFile{cfg.Path, cfg.Token}, nil },
	})
	if err := a.Open(); err != nil {
		b.Fatal(err)
	}
	running(b, a)
	return a, registry
}

// BenchmarkScrape measures a scrape of the metrics, beside one of as many series that are nobody's.
func BenchmarkScrape(b *testing.B) {
	for _, tokens := range []int{100, 10_000} {
		a, registry := bigAgent(b, tokens)
		b.Run(fmt.Sprintf("tokens=%d/by=credagent", tokens), func(b *testing.B) {
			answer(b, Metrics(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), a.WriteMetrics), "/metrics")
		})
		b.Run(fmt.Sprintf("tokens=%d/by=bare", tokens), func(b *testing.B) {
			bare := prometheus.NewRegistry()
			for family := range 16 { // a token has ten series, its sink six
				gauges := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: fmt.Sprintf("bare_%d", family), Help: "Nothing."}, []string{"token"})
				bare.MustRegister(gauges)
				for i := range tokens {
					gauges.WithLabelValues(fmt.Sprintf("token-%d", i)).Set(1)
				}
			}
			answer(b, promhttp.HandlerFor(bare, promhttp.HandlerOpts{}), "/metrics")
		})
	}
}

// answer measures a handler's answer.
func answer(b *testing.B, handler http.Handler, path string) {
	b.Helper()
	request := httptest.NewRequest(http.MethodGet, path, nil)
	b.ReportAllocs()
	for b.Loop() {
		w := &discarding{header: http.Header{}}
		if handler.ServeHTTP(w, request); w.status != 0 && w.status != http.StatusOK || w.written == 0 {
			b.Fatal(w.status)
		}
		b.SetBytes(int64(w.written))
	}
}

// discarding is an answer that nobody reads.
type discarding struct {
	header  http.Header
	status  int
	written int
}

func (d *discarding) Header() http.Header         { return d.header }
func (d *discarding) WriteHeader(status int)      { d.status = status }
func (d *discarding) Write(p []byte) (int, error) { d.written += len(p); return len(p), nil }

// BenchmarkStatus measures /v1/status, beside the JSON alone of a status that is there.
func BenchmarkStatus(b *testing.B) {
	for _, tokens := range []int{100, 10_000} {
		a, _ := bigAgent(b, tokens)
		b.Run(fmt.Sprintf("tokens=%d/by=credagent", tokens), func(b *testing.B) {
			answer(b, Handler(a, http.NotFoundHandler()), "/v1/status")
		})
		b.Run(fmt.Sprintf("tokens=%d/by=json", tokens), func(b *testing.B) {
			s := a.Status()
			b.ReportAllocs()
			for b.Loop() {
				text, err := json.Marshal(s)
				if err != nil {
					b.Fatal(err)
				}
				if len(text) < 100*tokens {
					b.Fatal("it is not all there")
				}
			}
		})
	}
}
