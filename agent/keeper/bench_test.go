package keeper

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/gate"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/provider"
	"github.com/prometheus/client_golang/prometheus"
)

// BenchmarkSchedule measures what a keeper does when it looks at the clock and finds nothing due.
func BenchmarkSchedule(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	counted := metrics.New(prometheus.NewRegistry(), "test")
	cfg := config.Client{Name: "client", TokenURL: "https://login.example.com/token", ClientID: "id"}
	gates := gate.NewSet(gate.Options{Waiting: func() {}, Roll: func(string) func() float64 { return rand.Float64 }, Metrics: counted, Log: log})
	c := gates.NewClient(&cfg, func(provider.Spec) provider.Provider { return nil }, nil)
	k := New(&config.Token{Name: "a", Client: "client", RefreshAt: 0.5}, c, Options{Roll: rand.Float64, Metrics: counted, Log: log})
	now := time.Now()
	body := []byte(`{"access_token":"token","token_type":"Bearer","expires_in":3600}`)
	got := exchange.Read("", provider.Reply{Status: http.StatusOK, Header: http.Header{}, Body: body}, nil, time.Minute, now)
	got.Sent = now
	k.learn(got)
	b.ReportAllocs()
	for b.Loop() {
		now := time.Now()
		if k.due(now) || !k.nextAt().After(now) {
			b.Fatal("it is due")
		}
	}
}
