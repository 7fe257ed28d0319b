package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/internal/filewatch"
)

// proveWithin spreads the requests that prove a rotated credential.
const proveWithin = 3 * time.Second

// rotation notices that credential files changed. It looks at directories, because files are
// replaced by renames and symlinks; and at what stat says, because not every file system tells of
// changes. It never reads a credential: only the provider's process may. It belongs to the watch's
// goroutine.
type rotation struct {
	watcher  filewatch.Notifier     // nil until the first second is over, and where there is none
	seen     map[*credential]string // what stat said of the credential's files
	settling *filewatch.Settling
	begun    bool
	looking  atomic.Bool
}

// newRotation has the files looked at once more when they had time to settle, and watched from then
// on. A run that is over before that need not end a watch, for which Linux takes 15 ms.
func newRotation() *rotation {
	r := &rotation{seen: map[*credential]string{}, settling: filewatch.NewSettling()}
	r.settling.Touch()
	return r
}

// begin begins to watch, unless that was tried already.
func (r *rotation) begin(open func() (filewatch.Notifier, error), log *slog.Logger) {
	if r.begun {
		return
	}
	r.begun = true
	watcher, err := open()
	if err != nil {
		log.Warn("credential files are looked at every half minute only, the system does not tell of changes", keyError, err)
		return
	}
	r.watcher = watcher
}

func (r *rotation) close() {
	r.settling.Stop()
	if r.watcher != nil {
		_ = r.watcher.Close()
	}
}

// events tells of changes in the watched directories; nil where the system does not.
func (r *rotation) events() <-chan fsnotify.Event {
	if r.watcher == nil {
		return nil
	}
	return r.watcher.Changes()
}

// failures tells that changes may have been missed; nil where there is no watcher.
func (r *rotation) failures() <-chan error {
	if r.watcher == nil {
		return nil
	}
	return r.watcher.Failures()
}

// look returns the credentials whose files are not as they were at the last look, and has the watcher,
// if there is one, watch them all.
func (r *rotation) look(watcher filewatch.Notifier, clients map[string]*client) []replaced {
	var all []replaced
	seen := make(map[*credential]string, len(clients))
	for _, c := range clients {
		for _, in := range c.credentials {
			files := in.published.Load().known.Files
			if len(files) == 0 {
				continue
			}
			if watcher != nil {
				filewatch.Watch(watcher, files)
			}
			now := filewatch.Fingerprint(files)
			before, known := r.seen[in]
			if known && before != now {
				all = append(all, replaced{c, in})
			}
			if before != now {
				in.change(func(view *credentialView) { view.files = now })
			}
			seen[in] = now
		}
	}
	r.seen = seen
	return all
}

// replaced is a credential whose files changed.
type replaced struct {
	client     *client
	credential *credential
}

// prove makes use of a credential that changed: the provider loads it, every wait of our own ends,
// and one token is refreshed early, while the old one is still good.
func (a *Agent) prove(ctx context.Context, r replaced) {
	c, in := r.client, r.credential
	before := in.published.Load().known.Identity
	said, err := in.load(ctx)
	if ctx.Err() != nil {
		return
	}
	a.metrics.rotated(c.cfg.Name, err)
	if err != nil {
		in.found("it changed and cannot be loaded: " + err.Error())
		in.log.Warn("changed credential cannot be loaded, tokens stay as they are; the next change is tried again", keyError, err)
		return
	}
	in.learn(said)
	in.found("")
	failing := c.gate.published.Load().Failures > 0
	if said.Identity != "" && said.Identity == before && !failing {
		in.log.Info("credential files changed, the credential is the same", keyIdentity, said.Identity)
		return
	}
	a.use(c, in, said.Identity)
}

// use makes a client use a credential that is another one now, if it is that one's turn.
func (a *Agent) use(c *client, in *credential, identity string) {
	failing := c.gate.published.Load().Failures > 0
	if !c.rotated(in) && !failing {
		in.log.Info("credential changed, it is not in use", keyIdentity, identity)
		return
	}
	in.log.Info("credential changed, proving it by one early refresh", keyIdentity, identity)
	keepers := a.keepersOf(c)
	proof := proofAmong(keepers) // before the waits end: a token that waits is proof enough
	c.gate.forgive()
	for _, k := range keepers {
		k.forgive()
	}
	if proof != nil {
		proof.advance(time.Now().Add(time.Duration(proof.roll() * float64(proveWithin))))
	}
}

// load has the provider load the credential, without a request.
func (c *credential) load(ctx context.Context) (provider.Credential, error) {
	said, problems, err := c.provider.Check(ctx, true)
	if err == nil && len(problems) > 0 {
		err = fmt.Errorf("its configuration: %s", problems[0].Message)
	}
	return said, err
}

func (a *Agent) keepersOf(c *client) []*keeper {
	var keepers []*keeper
	p := a.parts.Load()
	for _, cfg := range p.cfg.Tokens {
		if k := p.keepers[cfg.Name]; k.client == c {
			keepers = append(keepers, k)
		}
	}
	return keepers
}

// proofAmong picks the keeper whose refresh is to prove a new credential. It is nil when one of
// them asks for a token anyway.
func proofAmong(keepers []*keeper) *keeper {
	for _, k := range keepers {
		if v := k.published.Load(); v.token.AccessToken.IsZero() || v.attempts.Failures > 0 {
			return nil
		}
	}
	if len(keepers) == 0 {
		return nil
	}
	return keepers[0]
}

// advance makes the keeper refresh its token at the given time, if that is earlier than planned.
func (k *keeper) advance(at time.Time) {
	k.early.Store(&at)
	k.wake()
}

// earlier takes note of a refresh that was brought forward.
func (k *keeper) earlier() {
	at := k.early.Swap(nil)
	if at == nil || k.view.token.AccessToken.IsZero() || policy.Overdue(*at, k.view.token.RefreshOn) {
		return
	}
	k.proofAt = *at
	k.publish()
}
