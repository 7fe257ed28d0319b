package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
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
		cfg := f.agent.parts.Load().cfg
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

// TestLineServesInOrder compares the line with one that is searched from end to end, at random.
func TestLineServesInOrder(t *testing.T) {
	now := time.Now()
	random := rand.New(rand.NewPCG(1, 2))
	g := newGate(slog.New(slog.DiscardHandler), func() float64 { return 0 }, func(*gate, time.Time) {})
	var all []queued
	for n := range 5_000 {
		switch random.IntN(4) {
		case 0, 1:
			ctx, leave := context.WithCancel(t.Context())
			q := queued{ask: ask{ctx: ctx, token: strconv.Itoa(n), due: now.Add(time.Duration(random.IntN(50)) * time.Second), urgent: &atomic.Bool{}}, leave: leave}
			q.urgent.Store(random.IntN(20) == 0)
			all = append(all, q)
			g.request(q.ask)
		case 2:
			if len(all) == 0 {
				continue
			}
			if one := all[random.IntN(len(all))]; random.IntN(2) == 0 {
				one.leave()
			} else {
				one.urgent.Store(true)
				g.hurry()
			}
		case 3:
			all = slices.DeleteFunc(all, func(q queued) bool { return q.ctx.Err() != nil })
			got, ok := g.next()
			if ok != (len(all) > 0) {
				t.Fatalf("next() = %t with %d in line", ok, len(all))
			}
			if ok {
				i := searched(all)
				if got.token != all[i].token {
					t.Fatalf("next() is %s, want %s", got.token, all[i].token)
				}
				all[i].leave()
				all = slices.Delete(all, i, i+1)
			}
		}
	}
}

type queued struct {
	ask
	leave context.CancelFunc
}

// searched is the index of the first urgent one, else of the first that is due longest.
func searched(all []queued) int {
	if i := slices.IndexFunc(all, func(q queued) bool { return q.urgent.Load() }); i >= 0 {
		return i
	}
	longest := 0
	for i, q := range all {
		if q.due.Before(all[longest].due) {
			longest = i
		}
	}
	return longest
}

// TestLineForgetsWhoLeft: reloads behind a gate that is closed for a day must not fill the memory.
func TestLineForgetsWhoLeft(t *testing.T) {
	var l line
	l.push(ask{ctx: t.Context(), due: time.Now()}) // stays in front
	for range 10_000 {
		ctx, leave := context.WithCancel(t.Context())
		l.push(ask{ctx: ctx, due: time.Now().Add(time.Hour)})
		leave()
	}
	if len(l.asks) > 50 {
		t.Errorf("%d asks are kept, of which somebody waits for one", len(l.asks))
	}
}
