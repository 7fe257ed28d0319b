package gate

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/logkey"
)

// credential is one of the credentials that a client may authenticate with: the provider that
// knows it, and what there is to know of it outside the provider's process.
type credential struct {
	name     string // primary or fallback
	cfg      config.Credential
	provider provider.Provider
	log      *slog.Logger
	earlier  *store.Credential // what an earlier process used, until it is compared; nil where nothing is remembered
	watched  watched

	learning  sync.Mutex // guards writes of published
	published atomic.Pointer[credentialView]
}

// credentialView is what is known of a credential at one instant.
type credentialView struct {
	known   provider.Credential // what the provider last said of it
	files   string              // what stat said of its files at the last look
	problem string              // why it cannot be used now; "" while nothing speaks against it
}

func newCredential(name string, cfg config.Credential, p provider.Provider, log *slog.Logger) *credential {
	c := &credential{name: name, cfg: cfg, provider: p, log: log.With(logkey.Provider, cfg.Provider, logkey.Credential, name)}
	c.published.Store(&credentialView{})
	return c
}

// change publishes a changed view.
func (c *credential) change(change func(*credentialView)) {
	c.learning.Lock()
	defer c.learning.Unlock()
	view := *c.published.Load()
	change(&view)
	c.published.Store(&view)
}

// learn publishes what the provider says of the credential, unless it says nothing.
func (c *credential) learn(said provider.Credential) {
	c.change(func(view *credentialView) {
		if len(said.Files) > 0 {
			view.known.Files = said.Files
		}
		if said.Identity != "" || !said.NotAfter.IsZero() { // else it was not loaded, or has neither
			said.Files = view.known.Files
			view.known = said
		}
	})
}

// found publishes what is wrong with the credential; "" for nothing.
func (c *credential) found(problem string) {
	if c.published.Load().problem != problem {
		c.change(func(view *credentialView) { view.problem = problem })
	}
}

// status returns what there is to tell of the credential.
func (c *credential) status() status.Credential {
	view := c.published.Load()
	return status.Credential{
		Name:     c.name,
		Provider: c.cfg.Provider,
		Identity: view.known.Identity,
		NotAfter: status.Instant(view.known.NotAfter),
		EndsSoon: policy.NoticeOf(time.Now(), view.known.NotBefore, view.known.NotAfter) > policy.NoNotice,
		Problem:  view.problem,
	}
}
