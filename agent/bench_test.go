package agent

import (
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/provider"
)

// BenchmarkGate measures how a token gets in line and the gate takes the next one, with others in
// line, beside a bare heap of as many instants.
func BenchmarkGate(b *testing.B) {
	for _, waiting := range []int{1, 100, 1_000, 10_000} {
		now := time.Now()
		b.Run(fmt.Sprintf("waiting=%d/by=credagent", waiting), func(b *testing.B) {
			g := newGate(slog.New(slog.DiscardHandler), func() float64 { return 0 }, func(*gate, time.Time) {})
			orders := make([]orders, waiting)
			for i := range waiting {
				g.request(ask{ctx: b.Context(), due: due(now, i), urgent: &orders[i].urgent})
			}
			b.ReportAllocs()
			for i := waiting; b.Loop(); i++ {
				g.look()
				a, _ := g.next()
				a.due = due(now, i)
				g.request(a)
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
	f := newFixture(nil, names...)
	p := f.agent.parts.Load()
	for _, k := range p.keepers {
		k.settle(grantedAnswer())
	}
	for _, w := range p.writers {
		if err := w.write(); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

func grantedAnswer() answer {
	at := time.Now()
	a := readReply(granted(strings.Repeat("eyJ0eXAiOiJKV1Qi", 100), time.Hour), time.Minute, at)
	a.sent = at
	return a
}

// BenchmarkRefresh measures all that the agent does for one refresh but the exchange and the sink's
// file, with few and with many other tokens.
func BenchmarkRefresh(b *testing.B) {
	for _, tokens := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("tokens=%d", tokens), func(b *testing.B) {
			f := filled(b, tokens)
			p := f.agent.parts.Load()
			k, w := p.keepers["token-0"], p.writers[0]
			var got answer
			reply := func(a answer) { got = a }
			k.client.credentials[0].provider = &scripted{answer: func(context.Context, provider.Request) (provider.Reply, error) {
				return granted("token", time.Hour), nil
			}}
			b.ReportAllocs()
			for b.Loop() {
				k.client.gate.answer(b.Context(), ask{ctx: b.Context(), client: k.client, token: k.cfg.Name, form: k.nextForm, sending: k.noteSent, reply: reply})
				k.settle(got)
				<-k.note()
				if err := w.write(); err != nil || got.failure != nil {
					b.Fatal(err, got.failure)
				}
			}
		})
	}
}

// BenchmarkSchedule measures what a keeper does when it looks at the clock and finds nothing due.
func BenchmarkSchedule(b *testing.B) {
	k := filled(b, 1).agent.parts.Load().keepers["token-0"]
	b.ReportAllocs()
	for b.Loop() {
		now := time.Now()
		if k.due(now) || k.untilDue(now) <= 0 {
			b.Fatal("it is due")
		}
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
