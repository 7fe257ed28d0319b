package signals

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/logkey"
)

const (
	maxSeen = store.MaxSeen
	// slack is what an event's time may be behind, because it is in whole seconds, as is the Date by which
	// the clocks are compared.
	slack = 2 * time.Second
	// settling is how long it is remembered that a certificate was revoked, until what followed is saved.
	settling = time.Minute
	// saveTimeout is how long a save is waited for at once.
	saveTimeout = 2 * time.Second
)

// The outcomes of events in metrics.
const (
	outcomeActed     = status.SignalActed
	outcomeStale     = status.SignalStale
	outcomeIgnored   = status.SignalIgnored
	outcomeDuplicate = status.SignalDuplicate
	outcomeRefused   = status.SignalRefused
)

func (s *Stream) count(event, outcome string) {
	s.received++
	s.last = status.StreamEvent{At: time.Now().Round(0).UTC(), Event: event, Outcome: outcome}
	s.o.Metrics.Signalled(s.cfg.Name, event, outcome)
}

// handleEvent does what an event says about our clients.
func (s *Stream) handleEvent(ctx context.Context, x set) (outcome string) {
	event := nameOf(x.event)
	if member := x.subject.cannot(s.metadata.CriticalMembers, s.cfg.Subjects); member != "" {
		if s.seldom("critical " + member) {
			s.log.Warn("signal discarded, a critical member of its subject is not understood", logkey.Event, event, logkey.Reason, quote(member))
		}
		return outcomeIgnored
	}
	if !slices.Contains(s.cfg.Events, event) {
		return outcomeIgnored
	}
	outcome = outcomeIgnored
	for _, client := range x.subject.clients(s.cfg.Subjects) {
		switch s.begin(ctx, store.Effect{Event: event, Client: client, At: s.happened(x.at), Serial: x.payload.Serial}, x.payload) {
		case outcomeActed:
			outcome = outcomeActed
		case outcomeStale:
			if outcome == outcomeIgnored {
				outcome = outcomeStale
			}
		}
	}
	return outcome
}

// happened is when an event happened by this host's clock: never after now, however far off the
// transmitter's clock is.
func (s *Stream) happened(at time.Time) time.Time {
	now := time.Now().Round(0)
	if at = at.Add(slack - s.link.ahead); at.After(now) {
		return now
	}
	return at
}

// begin brings about what an event says of a client, and has it remembered until it is done.
func (s *Stream) begin(ctx context.Context, e store.Effect, p payload) (outcome string) {
	if e.Event == config.EventCredentialChange && !p.revokesCertificate() {
		return outcomeIgnored // that a credential is a new one, its files say
	}
	if e.Event != config.EventCredentialChange {
		e.Serial = ""
	}
	if len(e.Serial) > maxText || !s.apply(ctx, e) {
		if e.Event == config.EventCredentialChange {
			return outcomeIgnored
		}
		s.log.Info("signal is older than the token, nothing to do", logkey.Event, e.Event, logkey.Client, e.Client)
		return outcomeStale
	}
	s.log.Info("signal received", logkey.Event, e.Event, logkey.Client, e.Client)
	i := slices.IndexFunc(s.record.Pending, func(p store.Effect) bool { return keyOf(p) == keyOf(e) })
	if i < 0 {
		s.record.Pending = append(s.record.Pending, e)
	} else if e.At.After(s.record.Pending[i].At) {
		s.record.Pending[i] = e
	}
	s.unsaved = true
	return outcomeActed
}

// effectKey is what effects have in common that are one.
type effectKey struct{ event, client, serial string }

func keyOf(e store.Effect) effectKey { return effectKey{e.Event, e.Client, e.Serial} }

// apply has the agent act. It reports whether there was anything to do.
func (s *Stream) apply(ctx context.Context, e store.Effect) bool {
	s.applied[keyOf(e)] = time.Now()
	switch e.Event {
	case config.EventCredentialChange:
		return s.o.CertificateRevoked(ctx, e.Client, e.Serial)
	case config.EventAccountDisabled, config.EventAccountPurged:
		return s.o.AccountDisabled(e.Client, "the transmitter "+s.cfg.Issuer+" reports "+e.Event, e.At)
	}
	return s.o.Outdate(e.Client, e.At)
}

// act brings about what an earlier process did not, and forgets what is done.
func (s *Stream) act(ctx context.Context) {
	s.tidy()
	before := len(s.record.Pending)
	s.record.Pending = slices.DeleteFunc(s.record.Pending, func(e store.Effect) bool {
		at, applied := s.applied[keyOf(e)]
		if !applied {
			return !s.apply(ctx, e)
		}
		done := !s.o.Outdated(e.Client)
		if e.Event == config.EventCredentialChange {
			done = time.Since(at) > settling
		}
		if done {
			delete(s.applied, keyOf(e))
		}
		return done
	})
	s.unsaved = s.unsaved || len(s.record.Pending) != before
}

// restore takes over what an earlier process knew.
func (s *Stream) restore() {
	s.record = store.Stream{Issuer: s.cfg.Issuer, ClientID: s.o.Client.ClientID}
	if s.o.Memory == nil {
		return
	}
	r, err := s.o.Memory.LoadStream(s.cfg.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		s.log.Warn("state cannot be used", logkey.Error, err)
		return
	case r.Issuer != s.record.Issuer || r.ClientID != s.record.ClientID:
		s.log.Warn("ignoring saved state: configuration differs", logkey.Reason, "another issuer or client_id")
		return
	}
	s.record = r
	for _, mark := range r.Seen {
		s.seen[mark] = true
	}
	s.link.gate = s.link.gate.Blocked(r.BlockedUntil)
	s.link.attempts.Recent = r.Recent
	s.link.attempts = s.link.attempts.Sent(time.Now()) // a poll, of which no note is taken, may have been the last
}

// save saves the record if it changed, and returns how long to wait where that did not work: nothing is
// acknowledged meanwhile.
func (s *Stream) save() time.Duration {
	if until := s.link.gate.BlockedUntil; until.After(s.record.BlockedUntil) {
		s.record.BlockedUntil, s.unsaved = until, true
	}
	if s.o.Memory == nil {
		s.unsaved = false
	}
	if !s.unsaved {
		return 0
	}
	if s.saving == nil {
		s.saving = s.startSave()
	}
	timer := time.NewTimer(saveTimeout)
	defer timer.Stop()
	select {
	case err := <-s.saving:
		s.saving = nil
		if err == nil {
			s.unsaved, s.saves = false, 0
			return 0
		}
		s.saves++
		wait := policy.SinkRetry(s.saves, s.o.Roll())
		if policy.ShouldLog(s.saves) {
			s.log.Warn("saving state failed, signals are not acknowledged", logkey.Error, err, logkey.RetryIn, wait.Round(time.Millisecond), logkey.Attempt, s.saves)
		}
		return wait
	case <-timer.C:
		s.saves++
		if s.seldom("save") {
			s.log.Warn("the state directory does not answer, signals are not acknowledged")
		}
		return saveTimeout
	}
}

// startSave saves away from the stream's goroutine: a file system that does not answer must not keep it from
// ending.
func (s *Stream) startSave() chan error {
	r := s.record
	r.Recent = slices.Clone(s.link.attempts.Recent)
	r.Seen, r.Acks, r.Pending, r.Added = slices.Clone(r.Seen), slices.Clone(r.Acks), slices.Clone(r.Pending), slices.Clone(r.Added)
	done := make(chan error, 1)
	go func() { done <- s.o.Memory.SaveStream(s.cfg.Name, r) }()
	return done
}
