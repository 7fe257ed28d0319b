package gate

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/store"
)

// TestSetFindsWhoPasses: whatever clients come, move and go, each gate is there while one of them may pass
// it, and finds those that do; after all it is gone, unless its server asked for a wait.
func TestSetFindsWhoPasses(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			s := NewSet(Options{
				Roll: func(string) func() float64 { return rand.Float64 }, Metrics: metrics.New(prometheus.NewRegistry(), "test"),
				Log: slog.New(slog.DiscardHandler),
			})
			waiting := store.GateKey{ClientID: "id0", Server: "https://0.example.com/token"}
			s.Restore(map[store.GateKey]policy.Gate{waiting: {BlockedUntil: time.Now().Add(time.Hour)}})
			s.Start(t.Context())
			defer s.Stop()
			var clients []*Client
			for n := range 200 {
				switch random.IntN(4) {
				case 0, 1:
					cfg := &config.Client{Name: fmt.Sprint("c", n), ClientID: fmt.Sprint("id", random.IntN(3))}
					if host := random.IntN(4); random.IntN(2) == 0 {
						cfg.TokenURL = fmt.Sprintf("https://%d.example.com/token", host)
					} else {
						cfg.Issuer = fmt.Sprintf("https://%d.example.com", host)
					}
					clients = append(clients, s.NewClient(cfg, func(provider.Spec) provider.Provider { return granting{} }, nil))
				case 2:
					if i := random.IntN(len(clients) + 1); i < len(clients) && clients[i].cfg.Issuer != "" {
						s.move(clients[i], keyOf(clients[i].cfg.ClientID, fmt.Sprintf("https://%d.example.com/token", random.IntN(4))))
					}
				case 3:
					if i := random.IntN(len(clients) + 1); i < len(clients) {
						clients[i].Retire()
						clients[i].Retire() // as who made it may not know that it retired
						clients = append(clients[:i], clients[i+1:]...)
					}
				}
				s.consistent(t, clients)
			}
			another := func() {
				cfg := &config.Client{Name: "last", ClientID: "other", TokenURL: "https://0.example.com"}
				s.NewClient(cfg, func(provider.Spec) provider.Provider { return granting{} }, nil).Retire()
			}
			for _, c := range clients {
				c.Retire()
			}
			for range 10 { // each time a few gates are looked at
				another()
			}
			if left := s.All(); len(left) != 1 || left[0].Key() != Key(waiting) {
				t.Errorf("seed %d: after all clients there are %d gates, want the one with a wait", seed, len(left))
			}
			<-time.After(2 * time.Hour)
			another()
			if left := s.All(); len(left) != 0 {
				t.Errorf("seed %d: after the wait there are %d gates", seed, len(left))
			}
		})
	}
}

// consistent compares what the set knows with the clients that there are.
func (s *Set) consistent(t *testing.T, clients []*Client) {
	t.Helper()
	if got := s.Clients(); len(got) != len(clients) {
		t.Fatalf("%d clients, want %d", len(got), len(clients))
	}
	passing := map[*Gate]int{}
	for _, c := range clients {
		passing[c.Gate()]++
		if s.gates[c.Gate().key] != c.Gate() {
			t.Fatalf("client %s passes a gate that is no more", c.cfg.Name)
		}
	}
	idle := map[*Gate]int{}
	for _, g := range s.idle {
		idle[g]++
	}
	for _, g := range s.gates {
		if got := len(g.clients()); got != passing[g] {
			t.Errorf("gate %v is passed by %d clients, want %d", g.key, got, passing[g])
		}
		if idle[g] > 1 || g.idle != (idle[g] == 1) || passing[g] == 0 && !g.idle {
			t.Errorf("gate %v: %d clients pass it, it is %d times among the idle ones, and %v", g.key, passing[g], idle[g], g.idle)
		}
	}
}
