package agent

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/filewatch"
)

// recall takes over what an earlier process remembered. It comes before anything runs.
func (a *Agent) recall() {
	if a.options.Memory == nil {
		return
	}
	records, failed := a.options.Memory.LoadAll()
	for _, err := range failed {
		a.log.Warn("state cannot be used", keyError, err)
	}
	p := a.parts.Load()
	for key, state := range store.Gates(records) {
		a.recallGate(p, gateKey(key), state)
	}
	now := time.Now()
	for _, name := range oldestFirst(records) { // of a client's credentials the newest record counts
		r := records[name]
		if k, ok := p.keepers[name]; ok {
			k.recall(r, now)
		} else if !r.Token.ValidAt(now) && policy.Passed(now, r.Gate.OpensAt()) {
			a.forget(name)
		}
	}
}

// oldestFirst returns the names of records by when they were saved.
func oldestFirst(records map[string]store.Record) []string {
	return slices.SortedFunc(maps.Keys(records), func(a, b string) int {
		return records[a].SavedAt.Compare(records[b].SavedAt)
	})
}

// recallGate restores a gate, also one that no client passes now: the next configuration may have
// that client again.
func (a *Agent) recallGate(p *parts, key gateKey, state policy.Gate) {
	g, ok := p.gates[key]
	if !ok {
		g = newGate(a.log, a.options.Random("gate "+key.ClientID), a.recovered)
		p.gates[key] = g
	}
	g.state = state
	g.publish()
}

// forget removes the record of a token that is no more, when there is nothing left in it to obey.
func (a *Agent) forget(name string) {
	if err := a.options.Memory.Remove(name); err != nil {
		a.log.Warn("state of a token that is no more cannot be removed", keyToken, name, keyError, err)
	}
}

// recall takes over what an earlier process remembered of the token, as far as it is the same one.
func (k *keeper) recall(r store.Record, now time.Time) {
	if gateKey(r.Binding.GateKey()) == keyOf(k.client.cfg) {
		k.edit().attempts = r.Attempts
	}
	if why := r.Binding.Differs(k.binding()); why != "" {
		k.log().Warn("state is of something else and not used", keyReason, why)
		k.edit().attempts = k.view.attempts.Forgiven() // what was refused then is not what is asked for now
		k.publish()
		return
	}
	k.client.recall(r.Credential)
	if r.Token.ValidAt(now) {
		view := k.edit()
		view.token, view.acquiredAt = r.Token, r.AcquiredAt
		view.token.Name, view.token.ClientID = k.cfg.Name, k.client.cfg.ClientID
		k.log().Info("token restored", keyExpiry, stamp(r.Token.Expiry), keyRefreshAt, stamp(r.Token.RefreshOn))
	}
	k.challenges = newChallenges(r.Challenge, k.view.token)
	k.publish()
}

// binding says whose token this is.
func (k *keeper) binding() store.Binding {
	key := keyOf(k.client.cfg)
	return store.Binding{
		ClientID: key.ClientID,
		Server:   key.Server,
		Request:  store.RequestHash(k.form()),
		Provider: k.client.cfg.Credential.Provider,
	}
}

// note has what is known of the token saved.
func (k *keeper) note() (tried <-chan struct{}) {
	if k.recorder == nil {
		return done()
	}
	view := k.published.Load()
	return k.recorder.record(k.recordOf(view, *k.client.gate.published.Load(), view.attempts))
}

// noteSent has a request saved that is about to be sent through a gate, so that no crash makes
// another process send too many. It is called by the gate's goroutine.
func (k *keeper) noteSent(gate policy.Gate, at time.Time) (tried <-chan struct{}) {
	if k.recorder == nil {
		return done()
	}
	view := k.published.Load()
	return k.recorder.record(k.recordOf(view, gate, view.attempts.Sent(at)))
}

// done is what was tried already.
func done() <-chan struct{} {
	tried := make(chan struct{})
	close(tried)
	return tried
}

func (k *keeper) recordOf(view *tokenView, gate policy.Gate, attempts policy.Attempts) store.Record {
	return store.Record{
		Binding:    k.binding(),
		Token:      view.token,
		AcquiredAt: view.acquiredAt,
		Attempts:   attempts,
		Gate:       gate,
		Challenge:  k.challenges.remembered(),
		Credential: k.client.remembered(),
	}
}

// remembered is what a later process has to know of the client's credentials.
func (c *client) remembered() store.Credential {
	c.choosing.Lock()
	choice := c.choice
	c.choosing.Unlock()
	first := c.credentials[0].published.Load()
	return store.Credential{
		Files:    first.files,
		Identity: first.known.Identity,
		Choice:   choice,
	}
}

// recall takes over which credential an earlier process used.
func (c *client) recall(r store.Credential) {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	if len(c.credentials) > 1 {
		c.choice = r.Choice
	}
	c.credentials[0].earlier = &r
}

// recognise compares a client's credential with the one that an earlier process used. One that was
// replaced while nobody watched is proved as if somebody had.
func (a *Agent) recognise(ctx context.Context, c *client) {
	first := c.credentials[0]
	if first.earlier == nil {
		return
	}
	said, err := first.load(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		first.found("it cannot be loaded: " + err.Error())
		first.log.Warn("credential cannot be loaded", keyError, err)
		return
	}
	first.learn(said)
	gate := c.gate.published.Load()
	refused := gate.Failures > 0 && gate.Lasting
	in, _ := c.inUse()
	// Files look different after many a restart of a machine or a container; that alone is worth a
	// request only where it may be what was missing.
	moved := filewatch.Fingerprint(said.Files) != first.earlier.Files && (refused || in != first)
	if said.Identity != first.earlier.Identity || moved {
		a.use(c, first, said.Identity)
	}
}
