package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/credagent/credagent/agent/delivery"
	"github.com/credagent/credagent/agent/gate"
)

// TokenError says which token could not be had, and why.
type TokenError struct {
	Token   string
	Client  string
	Failure *gate.Failure // nil when there was no answer at all
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
type SinkError = delivery.Error

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
		v := k.View()
		refused = refused || v.Failure != nil && v.Failure.Class.Lasting()
		pending = pending || !v.Answered && k.Client().Gate().View().Failures == 0
	}
	for _, w := range p.writers {
		behind := w.Behind()
		pending = pending || behind != nil && behind.Err == nil
	}
	return refused && !pending && !p.acting()
}

// acting reports whether a change of a sink is being acted upon. It is for whoever has seen first that
// the sinks are written.
func (p *parts) acting() bool {
	return slices.ContainsFunc(p.writers, (*delivery.Writer).ActionsRunning)
}

func (a *Agent) missing() error {
	var errs []error
	p := a.parts.Load()
	for _, cfg := range p.cfg.Tokens {
		if v := p.keepers[cfg.Name].View(); !v.Token.ValidAt(time.Now()) {
			errs = append(errs, &TokenError{Token: cfg.Name, Client: cfg.Client, Failure: v.Failure})
		}
	}
	for _, w := range p.writers {
		if behind := w.Behind(); behind != nil {
			errs = append(errs, behind)
		}
	}
	return errors.Join(errs...)
}

// Probe makes one token request for each client that has a token, and writes no sink. What an earlier
// process was asked to wait for holds here too, and what is asked for now is remembered. Its error
// joins a [*TokenError] for each request that failed.
func (a *Agent) Probe(ctx context.Context) error {
	a.restore()
	probing, stop := context.WithCancel(ctx)
	defer a.gates.Stop()
	defer stop()
	a.gates.Start(probing)
	p := a.parts.Load()
	probed := map[string]bool{}
	var errs []error
	for _, cfg := range p.cfg.Tokens {
		if probed[cfg.Client] {
			continue
		}
		probed[cfg.Client] = true
		if failure := p.keepers[cfg.Name].Probe(ctx); failure != nil {
			errs = append(errs, &TokenError{Token: cfg.Name, Client: cfg.Client, Failure: failure})
		}
	}
	return errors.Join(errs...)
}
