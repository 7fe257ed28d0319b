package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/provider"
)

// TestCrashLoopStarvesNoToken has every process end before it got the answer to a second request.
// The tokens must take turns, or one of them has bad luck until it expires.
func TestCrashLoopStarvesNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const life = 40 * time.Second
		names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"}
		var n atomic.Int64
		slow := func(ctx context.Context, _ provider.Request) (provider.Reply, error) {
			answer := granted(fmt.Sprintf("token-%d", n.Add(1)), life)
			select {
			case <-time.After(600 * time.Millisecond):
				return answer, nil
			case <-ctx.Done():
				return provider.Reply{}, ctx.Err()
			}
		}
		f := newFixture(slow, names...)
		f.memory = newMemory()
		cfg := f.agent.parts.config()
		for i := range cfg.Tokens {
			cfg.Tokens[i].RefreshAt = 0.15 // more is due than there are requests
		}
		f.make(cfg, slow)
		stop := f.run(t.Context())
		pass(20 * time.Second)
		stop()
		for range 300 {
			f.make(cfg, slow)
			stop := f.run(t.Context())
			pass(time.Second)
			for _, name := range names {
				if !f.sinks[name].held(name).ValidAt(time.Now()) {
					t.Fatalf("token %s has expired after %d requests", name, n.Load())
				}
			}
			stop()
		}
	})
}
