package agent

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/provider"
)

// Commands of one host that waited for the same end wake together. One finds out whether the server answers
// again; where that is asked for another wait, the others send nothing.
func TestCommandsOfAHostAskOneAfterAnotherAfterAWait(t *testing.T) {
	for name, limit := range map[string]int{"three agents": 3, "eight agents": 8} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const wait = 20 * time.Second
				var mu sync.Mutex
				var blocked time.Time // by the last answer
				asked, early := 0, 0
				answer := func(context.Context, provider.Request) (provider.Reply, error) {
					mu.Lock()
					asked++
					n := asked
					mu.Unlock()
					pass(100 * time.Millisecond) // on the way
					mu.Lock()
					defer mu.Unlock()
					if time.Now().Before(blocked) {
						early++
					}
					if n <= 3 {
						blocked = time.Now().Add(wait)
						return refusal(http.StatusTooManyRequests, "slow_down", "20"), nil
					}
					return granted("token", time.Hour), nil
				}
				waits := &sharedWaits{until: map[string]time.Time{}}
				for range limit {
					f := newFixture(answer, "a")
					f.waits, f.random = waits, func(string) func() float64 { return func() float64 { return 0 } }
					f.make(f.agent.parts.config(), answer)
					defer f.run(t.Context())()
					pass(time.Second)
				}
				pass(5 * time.Minute)
				if early > 0 || asked != 3+limit {
					t.Errorf("%d requests, %d of them before the end of a Retry-After; want %d and none", asked, early, 3+limit)
				}
			})
		})
	}
}
