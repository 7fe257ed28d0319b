package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

// TokenError says which token could not be had, and why.
type TokenError struct {
	Token   string
	Client  string
	Failure *Failure // nil when there was no answer at all
	// Refused is why the client uses its fallback, where that has had no answer yet; nil for no such thing.
	Refused *Failure
	Asked   time.Duration // for how much longer the server wants no request; 0 for not at all
}

// Error implements error.
func (e *TokenError) Error() string {
	why := ErrNoToken.Error()
	switch {
	case e.Failure != nil:
		why = e.Failure.Error()
	case e.Refused != nil:
		why = e.Refused.Error() + "; fallback_credential: " + why
	}
	if e.Asked > 0 {
		why += fmt.Sprintf("; the server asked for no request for another %v", e.Asked)
	}
	return fmt.Sprintf("requesting token %q: client %q: %s", e.Token, e.Client, why)
}

// Unwrap lets callers branch on the failure.
func (e *TokenError) Unwrap() error {
	if e.Failure == nil || !e.Failure.Class.Lasting() {
		return ErrNoToken
	}
	return nil
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

// Once acquires every token and writes every sink, then stops. It goes on, by the same rules as
// [Agent.Run], until all is done, a person has to act, ctx ends, or the server wants no request before that; what succeeded is written. Its
// error joins a [*TokenError] for each token missing and the errors of sinks not written.
func (a *Agent) Once(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.run(running)
	}()
	for !a.settled() && !a.hopeless(ctx) && ctx.Err() == nil {
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
	list := a.parts.list()
	if a.Brief().Ready {
		return !list.acting()
	}
	refused, pending := false, false
	for _, t := range list.tokens {
		v := t.keeper.View()
		refused = refused || v.Failure != nil && v.Failure.Class.Lasting()
		pending = pending || !v.Answered && v.Gate.Failures == 0
	}
	for _, s := range list.sinks {
		lacks, err := s.writer.Behind()
		pending = pending || lacks && err == nil
	}
	return refused && !pending && !list.acting()
}

// hopeless reports whether all that is missing are tokens that the server wants not to be asked for before
// ctx ends, and everything else is done.
func (a *Agent) hopeless(ctx context.Context) bool {
	end, limited := ctx.Deadline()
	list := a.parts.list()
	if !limited || list.acting() {
		return false
	}
	now, missing := time.Now(), 0
	for _, t := range list.tokens {
		v := t.keeper.View()
		if v.Token.ValidAt(now) {
			continue
		}
		if !v.Gate.BlockedUntil.After(end) {
			return false
		}
		missing++
	}
	for _, s := range list.sinks {
		if lacks, _ := s.writer.Behind(); lacks {
			return false
		}
	}
	return missing > 0
}

// acting reports whether a change of a sink is being acted upon. It is for whoever has seen first that
// the sinks are written.
func (l *listing) acting() bool {
	return slices.ContainsFunc(l.sinks, func(s *sinkPart) bool { return s.writer.ActionsRunning() })
}

func (a *Agent) missing() error {
	var errs []error
	list := a.parts.list()
	for _, t := range list.tokens {
		if v := t.keeper.View(); !v.Token.ValidAt(time.Now()) {
			errs = append(errs, &TokenError{Token: t.name(), Client: t.cfg.Client,
				Failure: v.Failure, Refused: v.Refused, Asked: left(v.Gate.BlockedUntil)})
		}
	}
	for _, s := range list.sinks {
		if lacks, err := s.writer.Behind(); lacks {
			errs = append(errs, &SinkError{s.path(), err})
		}
	}
	return errors.Join(errs...)
}

// left is how long it is until an instant, in whole seconds; 0 once it is over.
func left(until time.Time) time.Duration {
	now := time.Now()
	if policy.Passed(now, until) {
		return 0
	}
	return policy.WholeSeconds(until.Sub(now))
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
	probed := map[string]bool{}
	var errs []error
	for _, t := range a.parts.list().tokens {
		client := t.cfg.Client
		if probed[client] {
			continue
		}
		probed[client] = true
		if failure := t.keeper.Probe(ctx); failure != nil {
			errs = append(errs, &TokenError{Token: t.name(), Client: client, Failure: failure})
		}
	}
	return errors.Join(errs...)
}
