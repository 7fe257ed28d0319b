package agent

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
)

// Provider authenticates and sends one client's token requests, one at a time. It never retries.
type Provider interface {
	Exchange(ctx context.Context, r provider.Request) (provider.Reply, error)
	// Check validates the configuration and, if load, the credential, without a request.
	Check(ctx context.Context, load bool) (provider.Credential, []provider.Problem, error)
	Close()
}

// client is a registered client at one authorization server: where its requests go and who
// authenticates them. Its gate's goroutine is the only one to call exchange.
type client struct {
	cfg      config.Client
	log      *slog.Logger
	gate     *gate
	provider Provider
	endpoint *endpoint
	metrics  *metrics

	learning  sync.Mutex // guards writes of published
	published atomic.Pointer[clientView]
}

// clientView is what is known of a client at one instant.
type clientView struct {
	endpoint   string              // "" while it is not known
	credential provider.Credential // what the provider last said of it
}

func newClient(cfg config.Client, g *gate, p Provider, m *metrics, log *slog.Logger) *client {
	c := &client{
		cfg:      cfg,
		log:      log.With(keyClient, cfg.Name),
		gate:     g,
		provider: p,
		endpoint: newEndpoint(cfg),
		metrics:  m,
	}
	c.published.Store(&clientView{endpoint: c.endpoint.url()})
	return c
}

// exchange finds the token endpoint and makes one token request.
func (c *client) exchange(ctx context.Context, a ask) answer {
	begun := time.Now()
	got := c.tokenRequest(ctx, a)
	if ctx.Err() == nil && (got.failure == nil || !got.failure.Local) {
		c.metrics.requested(c.cfg.Name, a.token, got.outcome.Class, got.at.Sub(begun))
	}
	return got
}

func (c *client) tokenRequest(ctx context.Context, a ask) answer {
	request, failed := c.endpoint.request(ctx)
	if failed != nil {
		return *failed
	}
	c.located(request.TokenEndpoint)
	request.ClientID = c.cfg.ClientID
	request.Form = a.form
	reply, err := c.provider.Exchange(ctx, request)
	at := time.Now()
	if err != nil {
		c.learn(credentialOf(err))
		return unanswered(err, request.Timeout, at)
	}
	c.learn(reply.Credential)
	return readReply(reply, request.Timeout, at)
}

// located publishes where the client's requests go.
func (c *client) located(endpoint string) {
	if c.published.Load().endpoint == endpoint {
		return
	}
	c.learning.Lock()
	defer c.learning.Unlock()
	view := *c.published.Load()
	view.endpoint = endpoint
	c.published.Store(&view)
}

// learn publishes what the provider says of the credential, unless it says nothing.
func (c *client) learn(said provider.Credential) {
	c.learning.Lock()
	defer c.learning.Unlock()
	view := *c.published.Load()
	if len(said.Files) > 0 {
		view.credential.Files = said.Files
	}
	if said.Identity != "" || !said.NotAfter.IsZero() { // else it was not loaded, or has neither
		view.credential.Identity, view.credential.NotAfter = said.Identity, said.NotAfter
	}
	c.published.Store(&view)
}

// status returns what there is to tell of the client.
func (c *client) status() status.Client {
	view, gate := c.published.Load(), c.gate.published.Load()
	return status.Client{
		Name:          c.cfg.Name,
		ClientID:      c.cfg.ClientID,
		TokenEndpoint: view.endpoint,
		Gate: status.Gate{
			BlockedUntil: status.Instant(gate.BlockedUntil),
			RetryAt:      status.Instant(gate.RetryAt),
			Failures:     gate.Failures,
		},
		Credential: status.Credential{
			InUse:    "primary",
			Provider: c.cfg.Credential.Provider,
			Identity: view.credential.Identity,
			NotAfter: status.Instant(view.credential.NotAfter),
		},
	}
}
