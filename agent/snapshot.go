package agent

import (
	"fmt"
	"io"
	"time"

	"github.com/credagent/credagent/agent/status"
)

// Status returns what there is to know now.
func (a *Agent) Status() status.Status {
	now := time.Now()
	defer func() { a.changes.looked(time.Since(now)) }()
	p := a.parts.Load()
	s := status.Status{
		Version:   a.options.Version,
		Source:    p.cfg.Source,
		StartedAt: a.startedAt.Round(0).UTC(),
		Now:       now.Round(0).UTC(),
		Reload:    a.lastReload.Load(),
		Tokens:    make([]status.Token, 0, len(p.keepers)),
		Clients:   make([]status.Client, 0, len(p.clients)),
		Sinks:     make([]status.Sink, 0, len(p.writers)),
	}
	for _, cfg := range p.cfg.Tokens {
		t := p.keepers[cfg.Name].Status(now)
		if !t.Valid {
			s.NotReady = append(s.NotReady, notValid(t.Name))
		}
		s.Tokens = append(s.Tokens, t)
	}
	for _, cfg := range p.cfg.Clients {
		s.Clients = append(s.Clients, p.clients[cfg.Name].Status())
	}
	for _, w := range p.writers {
		sink := w.Status()
		if !sink.Holds {
			s.NotReady = append(s.NotReady, notHeld(sink.Path))
		}
		s.Sinks = append(s.Sinks, sink)
	}
	s.DescribeSinks()
	s.Ready = len(s.NotReady) == 0
	return s
}

// mostReasons is how many reasons a brief gives for not being ready.
const mostReasons = 20

// Brief returns what there is to say now in a line. It is for whoever looks at every change, and makes
// nothing of which there is one for each token.
func (a *Agent) Brief() status.Brief {
	now := time.Now()
	defer func() { a.changes.looked(time.Since(now)) }()
	p := a.parts.Load()
	b := status.Brief{Now: now, Ready: true, Tokens: len(p.keepers)}
	missing := func(problem func(string) string, of string) {
		b.Ready = false
		if len(b.NotReady) < mostReasons {
			b.NotReady = append(b.NotReady, problem(of))
		}
	}
	for i := range p.cfg.Tokens {
		k := p.keepers[p.cfg.Tokens[i].Name]
		v := k.View()
		if v.Token.ValidAt(now) {
			b.Valid++
		} else {
			missing(notValid, p.cfg.Tokens[i].Name)
		}
		if next := k.NextRequest(v, now); !next.IsZero() && (b.Next.IsZero() || next.Before(b.Next)) {
			b.Next = next
		}
	}
	for _, w := range p.writers {
		if !w.UpToDate() {
			missing(notHeld, w.Path())
		}
	}
	return b
}

func notValid(token string) string { return fmt.Sprintf("token %q is not valid", token) }

func notHeld(sink string) string { return fmt.Sprintf("sink %q does not hold the newest token", sink) }

// WriteMetrics writes the metrics of tokens, clients and sinks that are not in the registry, in
// Prometheus's text format.
func (a *Agent) WriteMetrics(w io.Writer) error {
	s := a.Status()
	return a.metrics.Write(w, &s)
}
