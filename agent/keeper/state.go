package keeper

import (
	"net/url"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/logkey"
)

// Restore takes over what an earlier process saved of the token, as far as it is the same one. It
// comes before the start.
func (k *Keeper) Restore(r store.Record, now time.Time) {
	k.client.Resume(r.Binding)
	binding := k.client.Binding(k.identity())
	if r.Binding.GateKey() == binding.GateKey() {
		view := k.edit()
		view.Attempts, view.requests = r.Attempts, r.History.Requests
	}
	if why := r.Binding.Differs(binding); why != "" {
		k.log().Warn("ignoring saved state: configuration differs", logkey.Reason, why)
		k.edit().Attempts = k.view.Attempts.WithoutBackoff() // what was refused then is not what is asked for now
		k.publish()
		return
	}
	k.client.Restore(r.Credential)
	if r.Token.ValidAt(now) {
		view := k.edit()
		view.Token, view.AcquiredAt, view.askedAt = r.Token, r.AcquiredAt, r.AcquiredAt
		view.Token.Name, view.Token.ClientID = k.cfg.Name, k.client.Config().ClientID
		k.log().Info("token restored", logkey.Expiry, stamp(r.Token.Expiry), logkey.RefreshAt, stamp(r.Token.RefreshOn))
	}
	k.edit().Earlier = r.History
	if past := r.Token; !past.Expiry.IsZero() && !past.ValidAt(now) {
		k.view.Earlier.AcquiredAt, k.view.Earlier.Expiry = r.AcquiredAt, past.Expiry
	}
	k.challenges = newChallenges(r.Challenge, k.view.Token, k.Wake)
	k.publish()
}

// identity is what tells one token's requests from another's: the form, and what the provider adds to it for
// the grant. Those names are no parameters', which have no blanks.
func (k *Keeper) identity() url.Values {
	all := k.form()
	for name, value := range map[string]string{
		"assertion subject": k.cfg.Subject,
		"assertion claims":  string(k.cfg.AssertionClaims),
	} {
		if value != "" {
			all.Set(name, value)
		}
	}
	return all
}

// save has what is known of the token saved. The channel brings how that went, and closes.
func (k *Keeper) save() (tried <-chan error) {
	if k.recorder == nil {
		return done()
	}
	view := k.published.Load()
	return k.recorder.record(k.recordOf(view, *k.client.Gate().View(), view.Attempts))
}

// saveSent has a request saved that is about to be sent through a gate, so that no crash makes
// another process send too many. It is called by the gate's goroutine.
func (k *Keeper) saveSent(state policy.Gate, at time.Time) (tried <-chan error) {
	if k.recorder == nil {
		return done()
	}
	view := k.published.Load()
	r := k.recordOf(view, state, view.Attempts.Sent(at))
	r.History.Requests++
	return k.recorder.record(r)
}

// done is what was tried already.
func done() <-chan error {
	tried := make(chan error)
	close(tried)
	return tried
}

func (k *Keeper) recordOf(view *view, state policy.Gate, attempts policy.Attempts) store.Record {
	return store.Record{
		Binding:    k.client.Binding(k.identity()),
		Token:      view.Token,
		AcquiredAt: view.AcquiredAt,
		Attempts:   attempts,
		Gate:       state,
		Challenge:  k.challenges.remembered(),
		Credential: k.client.Saved(),
		History:    view.history(),
	}
}

// history is what people are told of the token's past.
func (v *view) history() store.History {
	h := v.Earlier
	h.Requests = v.requests
	if !v.Token.AccessToken.IsZero() {
		h.AcquiredAt, h.Expiry = time.Time{}, time.Time{} // it is in the token
	}
	if f := v.Failure; f != nil {
		h.Failure = store.Failure{At: v.failedAt, Class: f.Class, Message: f.Error(), Advice: f.Advice}
	}
	return h
}
