package agent

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/credagent/credagent/agent/status"
)

// Status returns what there is to know now.
func (a *Agent) Status() status.Status { return a.statusOf(a.parts.list()) }

// StatusFor is [Agent.Status] as far as it is about the tokens that a user, or one of the groups, may have:
// these, their clients, and the sinks that hold no other. Ready is about these alone.
func (a *Agent) StatusFor(user int, groups []int) status.Status {
	list := a.parts.list()
	seen := &listing{}
	clients := map[string]bool{}
	for _, part := range list.tokens {
		if part.admits(user, groups) {
			seen.tokens = append(seen.tokens, part)
			clients[part.cfg.Client] = true
		}
	}
	for _, part := range list.clients {
		if clients[part.name()] {
			seen.clients = append(seen.clients, part)
		}
	}
	for _, part := range list.sinks {
		foreign := slices.ContainsFunc(part.sink.Tokens(), func(name string) bool { return !a.Allows(name, user, groups) })
		if !foreign {
			seen.sinks = append(seen.sinks, part)
		}
	}
	s := a.statusOf(seen)
	s.Source, s.Reload, s.Signals = "", nil, nil // whose errors are about the whole configuration
	return s
}

func (a *Agent) statusOf(list *listing) status.Status {
	now := time.Now()
	defer func() { a.changes.readIn(time.Since(now)) }()
	s := status.Status{
		Version:   a.options.Version,
		Source:    a.parts.settings().AbsoluteSource(),
		StartedAt: a.startedAt.Round(0).UTC(),
		Now:       now.Round(0).UTC(),
		Reload:    a.lastReload.Load(),
		Tokens:    make([]status.Token, 0, len(list.tokens)),
		Clients:   make([]status.Client, 0, len(list.clients)),
		Sinks:     make([]status.Sink, 0, len(list.sinks)),
	}
	for _, part := range list.tokens {
		t := part.keeper.Status(now)
		if !t.Valid {
			s.NotReady = append(s.NotReady, notValid(t.Name))
		}
		s.Tokens = append(s.Tokens, t)
	}
	for _, part := range list.clients {
		s.Clients = append(s.Clients, part.client.Status())
	}
	for _, part := range list.sinks {
		sink := part.writer.Status()
		if !sink.Holds {
			s.NotReady = append(s.NotReady, notHeld(sink.Path))
		}
		s.Sinks = append(s.Sinks, sink)
	}
	s.Signals = a.streams.status()
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
	defer func() { a.changes.readIn(time.Since(now)) }()
	list := a.parts.list()
	b := status.Brief{Now: now, Ready: true, Tokens: len(list.tokens)}
	missing := func(problem func(string) string, of string) {
		b.Ready = false
		if len(b.NotReady) < mostReasons {
			b.NotReady = append(b.NotReady, problem(of))
		}
	}
	for _, part := range list.tokens {
		v := part.keeper.View()
		if v.Token.ValidAt(now) {
			b.Valid++
		} else {
			missing(notValid, part.name())
		}
		if next := v.Gate.NextRequest(v.NextAt, now); !next.IsZero() && (b.Next.IsZero() || next.Before(b.Next)) {
			b.Next = next
		}
	}
	for _, part := range list.sinks {
		if !part.writer.UpToDate() {
			missing(notHeld, part.path())
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
