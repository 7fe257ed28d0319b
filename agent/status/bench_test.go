package status

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkTriage sorts an outage of 10,000 tokens, of one client and of one client each. The page asks for it each
// second.
func BenchmarkTriage(b *testing.B) {
	const tokens = 10_000
	for _, clients := range []int{1, tokens} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s := Status{Now: now}
			for i := range clients {
				s.Clients = append(s.Clients, Client{Name: fmt.Sprint("client-", i), Gate: Gate{Failures: 1, RetryAt: at(time.Minute)}})
			}
			for i := range tokens {
				s.Tokens = append(s.Tokens, Token{
					Name: fmt.Sprint("token-", i), Client: s.Clients[i%clients].Name, RefreshAt: at(time.Minute),
					LastOutcome: "transient", LastError: "HTTP 503", ConsecutiveFailures: 1,
				})
			}
			for b.Loop() {
				triage := s.Triage()
				for _, c := range s.Clients {
					triage.LevelOf(c.Name)
				}
			}
		})
	}
}
