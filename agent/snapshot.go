package agent

import (
	"fmt"
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
		t := tokenStatus(p.keepers[cfg.Name], now)
		if !t.Valid {
			s.NotReady = append(s.NotReady, notValid(t.Name))
		}
		s.Tokens = append(s.Tokens, t)
	}
	for _, cfg := range p.cfg.Clients {
		s.Clients = append(s.Clients, p.clients[cfg.Name].status())
	}
	for _, w := range p.writers {
		sink := a.sinkStatus(w)
		if !sink.Holds {
			s.NotReady = append(s.NotReady, notHeld(sink.Path))
		}
		s.Sinks = append(s.Sinks, sink)
	}
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
		v := k.published.Load()
		if v.token.ValidAt(now) {
			b.Valid++
		} else {
			missing(notValid, k.cfg.Name)
		}
		if next := k.nextRequest(v, now); !next.IsZero() && (b.Next.IsZero() || next.Before(b.Next)) {
			b.Next = next
		}
	}
	for _, w := range p.writers {
		if !a.upToDate(w) {
			missing(notHeld, w.sink.Path())
		}
	}
	return b
}

func notValid(token string) string { return fmt.Sprintf("token %q is not valid", token) }

func notHeld(sink string) string { return fmt.Sprintf("sink %q does not hold the newest token", sink) }

func tokenStatus(k *keeper, now time.Time) status.Token {
	v := k.published.Load()
	t := status.Token{
		Name:                k.cfg.Name,
		Client:              k.cfg.Client,
		Valid:               v.token.ValidAt(now),
		Scope:               v.token.Scope,
		AcquiredAt:          status.Instant(v.acquiredAt),
		Expiry:              status.Instant(v.token.Expiry),
		RefreshAt:           status.Instant(k.nextRequest(v, now)),
		ConsecutiveFailures: v.attempts.Failures,
		Requests:            v.requests,
		CAE:                 k.cfg.CAE,
	}
	waits, lastAt, last := k.challenges.look()
	t.ChallengePending, t.LastChallengeAt, t.LastChallengeOutcome = waits, status.Instant(lastAt), last
	if t.Expiry != nil {
		t.ExpiresOn = t.Expiry.Unix()
	}
	if v.answered {
		t.LastOutcome = v.last.String()
	}
	if v.failure != nil {
		t.LastError, t.Advice = v.failure.Error(), v.failure.Advice
		t.LastErrorAt = status.Instant(v.failedAt)
	}
	return t
}

// writeTime is how long a sink may take to get a new token, while the one that it holds is still
// good, before that is worth a word: every refresh would be a moment of not being ready.
const writeTime = 2 * time.Second

// catchingUp reports whether a sink holds good tokens, and newer ones have only just come.
func (a *Agent) catchingUp(v *sinkView, names []string) bool {
	now := time.Now()
	p := a.parts.Load()
	for _, name := range names {
		k, ok := p.keepers[name]
		if !ok || v.failure != nil || !v.wrote.of(name).ValidAt(now) {
			return false
		}
		newest := k.published.Load()
		if v.wrote.of(name).AccessToken != newest.token.AccessToken && now.Sub(newest.acquiredAt) > writeTime {
			return false
		}
	}
	return true
}

// upToDate reports whether a sink holds what it should.
func (a *Agent) upToDate(w *writer) bool {
	v, names := w.published.Load(), w.sink.Tokens()
	return v.holds(names, a.token) || a.catchingUp(v, names)
}

func (a *Agent) sinkStatus(w *writer) status.Sink {
	v := w.published.Load()
	s := status.Sink{
		Path:        w.sink.Path(),
		Tokens:      w.sink.Tokens(),
		Holds:       a.upToDate(w),
		LastSuccess: status.Instant(v.lastSuccess),
		LastChange:  status.Instant(v.lastChange),
		LastErrorAt: status.Instant(v.failedAt),
		RetryAt:     status.Instant(v.retryAt),
		OnChange:    w.onChange(),
	}
	if v.failure != nil {
		s.LastError = v.failure.Error()
	}
	return s
}
