package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

// ErrNoToken says that waiting might have helped, but the time was up.
var ErrNoToken = errors.New("no token yet")

// TokenError says which token could not be had, and why.
type TokenError struct {
	Token   string
	Client  string
	Failure *Failure // nil when there was no answer at all
}

// Error implements error.
func (e *TokenError) Error() string {
	why := ErrNoToken.Error()
	if e.Failure != nil {
		why = e.Failure.Error()
	}
	return fmt.Sprintf("requesting token %q: client %q: %s", e.Token, e.Client, why)
}

// SinkError says which sink could not be written although its tokens are there, and why.
type SinkError struct {
	Sink string
	Err  error // nil when the time was up
}

// Error implements error.
func (e *SinkError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("writing %q: the time was up", e.Sink)
	}
	return e.Err.Error()
}

// Unwrap lets callers branch on the failure.
func (e *TokenError) Unwrap() error {
	if e.Failure == nil || !e.Failure.Class.Lasting() {
		return ErrNoToken
	}
	return nil
}

// Once acquires every token and writes every sink, then stops. It goes on, by the same rules as
// [Agent.Run], until all is done, a person has to act, or ctx ends; what succeeded is written. Its
// error joins a [*TokenError] for each token missing and the errors of sinks not written.
func (a *Agent) Once(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.Run(running)
	}()
	for !a.settled() && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-a.Changes():
		}
	}
	stop()
	<-ended
	return a.missing()
}

// settled reports whether going on is pointless: everything is there and acted upon, or something was
// refused and everything else has had its first answer.
func (a *Agent) settled() bool {
	p := a.parts.Load()
	if a.Brief().Ready {
		return !p.acting()
	}
	refused, pending := false, false
	for _, k := range p.keepers {
		v := k.published.Load()
		refused = refused || v.failure != nil && v.failure.Class.Lasting()
		pending = pending || !v.answered && k.client.gate.published.Load().Failures == 0
	}
	for _, w := range p.writers {
		v := w.published.Load()
		pending = pending || v.failure == nil && a.available(w) && !v.holds(w.sink.Tokens(), a.token)
	}
	return refused && !pending && !p.acting()
}

// acting reports whether a change of a sink is being acted upon. It is for whoever has seen first that
// the sinks are written: a writer tells its hook before that.
func (p *parts) acting() bool {
	return slices.ContainsFunc(p.writers, func(w *writer) bool { return w.hook.Busy() })
}

// available reports whether a sink's tokens are all there.
func (a *Agent) available(w *writer) bool {
	for _, name := range w.sink.Tokens() {
		if _, ok := a.token(name); !ok {
			return false
		}
	}
	return true
}

func (a *Agent) missing() error {
	var errs []error
	p := a.parts.Load()
	for _, cfg := range p.cfg.Tokens {
		if v := p.keepers[cfg.Name].published.Load(); v.token.AccessToken.IsZero() {
			errs = append(errs, &TokenError{Token: cfg.Name, Client: cfg.Client, Failure: v.failure})
		}
	}
	for _, w := range p.writers {
		v := w.published.Load()
		if a.available(w) && !v.holds(w.sink.Tokens(), a.token) {
			errs = append(errs, &SinkError{Sink: w.sink.Path(), Err: v.failure})
		}
	}
	return errors.Join(errs...)
}

// Probe makes one token request for each client that has a token, and writes no sink. What an earlier
// process was asked to wait for holds here too, and what is asked for now is remembered. Its error
// joins a [*TokenError] for each request that failed.
func (a *Agent) Probe(ctx context.Context) error {
	a.recall()
	p := a.parts.Load()
	probed := map[string]bool{}
	var errs []error
	for _, cfg := range p.cfg.Tokens {
		if probed[cfg.Client] {
			continue
		}
		probed[cfg.Client] = true
		k := p.keepers[cfg.Name]
		if !k.client.gate.state.Open(time.Now()) {
			errs = append(errs, &TokenError{Token: cfg.Name, Client: cfg.Client, Failure: &Failure{
				Class: policy.Throttled, Message: "not asked: the client has to wait, " + waitOf(k.client.gate.state, time.Now()),
			}})
			continue
		}
		got := k.client.gate.serve(ctx, ask{ctx: ctx, client: k.client, token: cfg.Name, form: k.nextForm, held: k.held, sending: k.noteSent})
		k.settle(got)
		<-k.note()
		if got.failure != nil {
			errs = append(errs, &TokenError{Token: cfg.Name, Client: cfg.Client, Failure: got.failure})
		}
	}
	return errors.Join(errs...)
}

// waitOf says how long a gate stays closed, and on whose account.
func waitOf(g policy.Gate, now time.Time) string {
	left := wholeSeconds(g.OpensAt().Sub(now))
	if !policy.Passed(now, g.BlockedUntil) {
		return fmt.Sprintf("the server asked for %v more", left)
	}
	return fmt.Sprintf("%v more after its last request", left)
}
