package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/delivery"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/token"
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

// restored is a memory with a good token of each name.
type restored []string

func (m restored) LoadAll() (map[string]store.Record, []error) {
	records := make(map[string]store.Record, len(m))
	for _, name := range m {
		form := url.Values{"grant_type": {"client_credentials"}, "scope": {"scope-" + name}}
		records[name] = store.Record{
			Binding: store.Binding{ClientID: "id", Server: "https://login.example.com/token", Request: store.RequestHash(form)},
			Token: token.Token{
				AccessToken: secret.New(strings.Repeat("eyJ0eXAiOiJKV1Qi", 100)), TokenType: "Bearer", Scope: name,
				Expiry: time.Now().Add(24 * time.Hour), RefreshOn: time.Now().Add(12 * time.Hour),
			},
		}
	}
	return records, nil
}

func (restored) Save(string, store.Record) error { return nil }
func (restored) Remove(string) error             { return nil }

// filled is an agent that does not run and has so many tokens, all of them in their sinks.
func filled(b *testing.B, tokens int) *fixture {
	b.Helper()
	names := make([]string, tokens)
	for i := range names {
		names[i] = fmt.Sprintf("token-%d", i)
	}
	f := newFixture(nil, names...)
	f.memory = restored(names)
	f.make(f.agent.parts.config(), func(context.Context, provider.Request) (provider.Reply, error) {
		return granted("token", time.Hour), nil
	})
	if err := f.agent.Once(b.Context()); err != nil {
		b.Fatal(err)
	}
	return f
}

// BenchmarkDeliver measures what a writer does for one new token, but for the sink's file, with few and
// with many other tokens.
func BenchmarkDeliver(b *testing.B) {
	for _, tokens := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			f := filled(b, tokens)
			written := make(chan struct{}, 1)
			w := delivery.NewWriter(f.sinks["token-0"], delivery.Options{
				Newest: f.agent.newest, Roll: rand.Float64, Changed: func() { written <- struct{}{} }, Metrics: f.agent.metrics, Log: f.agent.log,
			})
			b.ReportAllocs()
			for b.Loop() {
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
			old := f.agent.parts.config()
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

// BenchmarkApply measures how a running agent takes another token among many.
func BenchmarkApply(b *testing.B) {
	for _, tokens := range []int{1, 1_000, 10_000} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			f := filled(b, tokens)
			t := f.agent.parts.config().Tokens[0]
			defer f.run(b.Context())()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				t.RefreshAt = 0.5 + float64(i%2)/10
				if err := f.agent.Apply(b.Context(), SetToken(t)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
