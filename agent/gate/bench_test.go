package gate

import (
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/provider"
	"github.com/prometheus/client_golang/prometheus"
)

// BenchmarkGate measures how a token gets in a gate's line and the next one is taken out, with others in
// line, beside a bare heap of as many instants.
func BenchmarkGate(b *testing.B) {
	for _, waiting := range []int{1, 100, 1_000, 10_000} {
		now := time.Now()
		b.Run(fmt.Sprintf("waiting=%d/by=credagent", waiting), func(b *testing.B) {
			var line line
			urgent := make([]atomic.Bool, waiting)
			for i := range waiting {
				line.push(Request{Ctx: b.Context(), Due: due(now, i), Urgent: &urgent[i]})
			}
			b.ReportAllocs()
			for i := waiting; b.Loop(); i++ {
				r := line.first().Request
				line.pop()
				r.Due = due(now, i)
				line.push(r)
			}
		})
		b.Run(fmt.Sprintf("waiting=%d/by=heap", waiting), func(b *testing.B) {
			var line instants
			for i := range waiting {
				heap.Push(&line, due(now, i))
			}
			b.ReportAllocs()
			for i := waiting; b.Loop(); i++ {
				heap.Pop(&line)
				heap.Push(&line, due(now, i))
			}
		})
	}
}

// due spreads tokens, the later ones later but for some shuffling.
func due(now time.Time, i int) time.Time {
	return now.Add(time.Duration(i+i*7919%101) * time.Second)
}

// instants is a heap.
type instants []time.Time

func (h instants) Len() int           { return len(h) }
func (h instants) Less(i, j int) bool { return h[i].Before(h[j]) }
func (h instants) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *instants) Push(x any)        { *h = append(*h, x.(time.Time)) }
func (h *instants) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// granting is a provider whose server grants at once.
type granting struct{}

func (granting) Exchange(context.Context, provider.Request) (provider.Reply, error) {
	body := []byte(`{"access_token":"token","token_type":"Bearer","expires_in":3600}`)
	return provider.Reply{Status: http.StatusOK, Header: http.Header{}, Body: body}, nil
}

func (granting) Check(context.Context, bool) (provider.Credential, []provider.Problem, error) {
	return provider.Credential{}, nil, nil
}

func (granting) Close() {}

// BenchmarkRequest measures what a gate does for one request, but for the exchange and the pace.
func BenchmarkRequest(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	gates := NewSet(Options{
		Waiting: func() {}, Roll: func(string) func() float64 { return func() float64 { return 0 } }, Recovered: func([]*config.Client, time.Time) {},
		Metrics: metrics.New(prometheus.NewRegistry(), "test"), Log: log,
	})
	cfg := config.Client{Name: "client", TokenURL: "https://login.example.com/token", ClientID: "id", RequestTimeout: time.Minute}
	c := gates.NewClient(&cfg, func(provider.Spec) provider.Provider { return granting{} }, nil)
	g := c.Gate()
	g.ctx = b.Context()
	r := Request{Ctx: b.Context(), Client: c, Token: "a", Form: func() url.Values { return url.Values{} }, Reply: func(exchange.Answer) {}}
	b.ReportAllocs()
	for b.Loop() {
		now := time.Now()
		found := c.find(b.Context())
		g.underWay[c]++
		got := c.exchange(b.Context(), r, found.request)
		got.Sent = now
		g.answered(r, got)
		if got.Failure != nil {
			b.Fatal(got.Failure)
		}
	}
}
