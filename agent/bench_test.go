package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/delivery"
	"github.com/credagent/credagent/agent/provider"
)

// BenchmarkStatus measures what it costs to put together what there is to know.
func BenchmarkStatus(b *testing.B) {
	for _, tokens := range []int{1, 1_000, 10_000} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			f := filled(b, tokens)
			b.ReportAllocs()
			for b.Loop() {
				if s := f.agent.Status(); !s.Ready || len(s.Tokens) != tokens {
					b.Fatal(s.NotReady)
				}
			}
		})
	}
}

// BenchmarkBrief measures what the daemon looks at after every change.
func BenchmarkBrief(b *testing.B) {
	for _, tokens := range []int{1, 1_000, 10_000} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			f := filled(b, tokens)
			b.ReportAllocs()
			for b.Loop() {
				if brief := f.agent.Brief(); !brief.Ready || brief.Valid != tokens {
					b.Fatal(brief.NotReady)
				}
			}
		})
	}
}

// filled is an agent that does not run and has so many tokens, all of them in their sinks.
func filled(b *testing.B, tokens int) *fixture {
	b.Helper()
	names := make([]string, tokens)
	for i := range names {
		names[i] = fmt.Sprintf("token-%d", i)
	}
	long := strings.Repeat("eyJ0eXAiOiJKV1Qi", 100)
	f := newFixture(func(context.Context, provider.Request) (provider.Reply, error) {
		return granted(long, time.Hour), nil
	}, names...)
	if err := f.agent.Once(b.Context()); err != nil {
		b.Fatal(err)
	}
	return f
}

// BenchmarkRefresh measures all that the agent does for one refresh but the exchange and the sink's
// file, with few and with many other tokens.
func BenchmarkRefresh(b *testing.B) {
	for _, tokens := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			f := filled(b, tokens)
			p := f.agent.parts.Load()
			k := p.keepers["token-0"]
			written := make(chan struct{}, 1)
			w := delivery.NewWriter(f.sinks["token-0"], delivery.Options{
				Newest: f.agent.newest, Roll: rand.Float64, Changed: func() { written <- struct{}{} }, Metrics: f.agent.metrics, Log: f.agent.log,
			})
			b.ReportAllocs()
			for b.Loop() {
				if failure := k.Probe(b.Context()); failure != nil {
					b.Fatal(failure)
				}
				w.Notify()
				<-written
			}
		})
	}
}

// BenchmarkReload measures how a running agent takes a configuration in which one token of many is
// another one.
func BenchmarkReload(b *testing.B) {
	for _, tokens := range []int{1, 1_000, 10_000} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			f := filled(b, tokens)
			old := f.agent.parts.Load().cfg
			defer f.run(b.Context())()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				next := *old
				next.Tokens = slices.Clone(old.Tokens)
				next.Tokens[0].RefreshAt = 0.5 + float64(i%2)/10
				if err := f.agent.Reload(b.Context(), &next); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
