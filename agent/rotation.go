package agent

import (
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/keeper"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/filewatch"
	"github.com/credagent/credagent/internal/logkey"
)

// proveWithin spreads the requests that prove a rotated credential.
const proveWithin = 3 * time.Second

// rotation notices that credential files changed. It watches directories, because files are
// replaced by renames and symlinks; and at what stat says, because not every file system tells of
// changes. It never reads a credential: only the provider's process may. It belongs to the watch's
// goroutine.
type rotation struct {
	watcher  filewatch.Notifier // nil until the first second is over, and where there is none
	settling *filewatch.Settling
	begun    bool
}

// newRotation has the files checked once more when they had time to settle, and watched from then
// on. A run that is over before that need not end a watch, for which Linux takes 15 ms.
func newRotation() *rotation {
	r := &rotation{settling: filewatch.NewSettling()}
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
		log.Warn("checking credential files every half minute only: the system reports no changes", logkey.Error, err)
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

// credentialReplaced ends every wait of our own of a client's tokens, as the client has another credential in
// use, and has one of them refreshed early, while the old one is still good.
func (a *Agent) credentialReplaced(c *config.Client) {
	tokens := a.parts.tokensOf(c)
	proof := proofAmong(tokens) // before the waits end: a token that waits is proof enough
	for _, t := range tokens {
		t.keeper.Adjust(policy.Attempts.WithoutBackoff)
	}
	if proof != nil {
		proof.RefreshWithin(proveWithin)
	}
}

// proofAmong picks the keeper whose refresh is to prove a new credential. It is nil when one of
// them asks for a token anyway.
func proofAmong(tokens []*tokenPart) *keeper.Keeper {
	for _, t := range tokens {
		if v := t.keeper.View(); v.Token.AccessToken.IsZero() || v.Attempts.Failures > 0 {
			return nil
		}
	}
	if len(tokens) == 0 {
		return nil
	}
	return tokens[0].keeper
}
