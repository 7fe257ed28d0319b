package agent

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
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

// client is a registered client at one authorization server: where its requests go and what
// authenticates them. Its gate's goroutine is the only one to call exchange.
type client struct {
	cfg         config.Client
	log         *slog.Logger
	gate        *gate
	credentials []*credential // the first, then the fallback where there is one
	endpoint    *endpoint
	metrics     *metrics
	located     atomic.Pointer[string] // the token endpoint; "" while it is not known
	ahead       atomic.Int64           // the server's clock before this host's, nanoseconds

	choosing  sync.Mutex
	choice    policy.Choice // guarded by choosing, as is rotations
	rotations int           // how often a credential was replaced
}

func newClient(cfg config.Client, g *gate, open func(provider.Spec) Provider, m *metrics, log *slog.Logger) *client {
	c := &client{
		cfg:      cfg,
		log:      log.With(keyClient, cfg.Name),
		gate:     g,
		endpoint: newEndpoint(cfg),
		metrics:  m,
	}
	c.add(primary, cfg.Credential, open)
	if cfg.FallbackCredential != nil {
		c.add(fallback, *cfg.FallbackCredential, open)
	}
	c.locate(c.endpoint.url())
	return c
}

func (c *client) add(name string, cfg config.Credential, open func(provider.Spec) Provider) {
	p := open(provider.Spec{Client: c.cfg.Name, Provider: cfg.Provider, Config: cfg.Config})
	c.credentials = append(c.credentials, newCredential(name, cfg, p, c.log))
}

// close ends the providers' processes.
func (c *client) close() {
	for _, in := range c.credentials {
		in.provider.Close()
	}
}

// exchange finds the token endpoint and makes one token request.
func (c *client) exchange(ctx context.Context, a ask) answer {
	begun := time.Now()
	got := c.tokenRequest(ctx, a)
	if !got.cut && (got.failure == nil || !got.failure.Local) {
		c.metrics.requested(c.cfg.Name, a.token, got.outcome.Class, got.at.Sub(begun))
	}
	return got
}

func (c *client) tokenRequest(ctx context.Context, a ask) answer {
	request, failed := c.endpoint.request(ctx)
	if failed != nil {
		failed.cut = ctx.Err() != nil && failed.failure.Status == 0
		return *failed
	}
	c.locate(request.TokenEndpoint)
	request.ClientID = c.cfg.ClientID
	request.Form = a.form()
	in, rotations := c.inUse()
	reply, err := in.provider.Exchange(ctx, request)
	got := answer{at: time.Now()}
	if err != nil {
		in.learn(credentialOf(err))
		got = unanswered(err, request.Timeout, got.at)
		got.cut = ctx.Err() != nil
	} else {
		in.learn(reply.Credential)
		got = readReply(a.withoutToken(reply), request.Timeout, got.at)
		c.compareClocks(got.ahead)
		if reply.Status == http.StatusNotFound || reply.Status == http.StatusGone {
			if c.endpoint.moved(ctx, request.TrustRoots) {
				got.fail(&Failure{Class: policy.Transient, Status: reply.Status, Message: "the token endpoint has moved: the issuer's metadata names another one now"}, true)
			}
		}
	}
	if !got.cut {
		got.switched = c.judge(in, got.failure, rotations)
	}
	return got
}

// compareClocks says when this host's clock has come to be too far from the server's.
func (c *client) compareClocks(ahead time.Duration) {
	before := time.Duration(c.ahead.Swap(int64(ahead)))
	if policy.Skewed(ahead) && !policy.Skewed(before) {
		c.log.Warn("clock differs from the server's", keySkew, ahead,
			keyAdvice, "set this host's clock, it is "+apart(ahead)+" the server's")
	}
}

// inUse is the credential to authenticate with, as of so many rotations.
func (c *client) inUse() (in *credential, rotations int) {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	return c.chosen(), c.rotations
}

// chosen is the credential in use; c.choosing is held.
func (c *client) chosen() *credential {
	if c.choice.Fallback {
		return c.credentials[1]
	}
	return c.credentials[0]
}

// judge learns from an answer whether a credential is accepted. It reports whether the client has
// switched to its fallback, which is to be tried at once.
func (c *client) judge(in *credential, failure *Failure, rotations int) (switched bool) {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	if rotations != c.rotations {
		return false // it was replaced meanwhile: the answer says nothing of the new one
	}
	switch {
	case failure == nil:
		in.found("")
		c.choice = c.choice.Accepted()
	case failure.Class == policy.Credential:
		in.found(failure.Error())
		if len(c.credentials) == 1 {
			return false
		}
		c.choice, switched = c.choice.Refused()
		in.log.LogAttrs(context.Background(), slog.LevelError, "credential is not accepted, the other one is next", failure.attributes()...)
	}
	return switched
}

// rotated takes note that the files of a credential were replaced. It reports whether that
// credential is in use from now on.
func (c *client) rotated(changed *credential) (inUse bool) {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	c.rotations++
	if changed.name == primary {
		c.choice = policy.Choice{}
	} else {
		c.choice = c.choice.FallbackChanged()
	}
	return c.chosen() == changed
}

// retire makes the answer to a request under way no reason to use the fallback any more: the client
// that takes this one's place would not know of it, and ask with the first credential again.
func (c *client) retire() {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	c.rotations++
}

// locate publishes where the client's requests go.
func (c *client) locate(endpoint string) {
	if at := c.located.Load(); at == nil || *at != endpoint {
		c.located.Store(&endpoint)
	}
}

// status returns what there is to tell of the client.
func (c *client) status() status.Client {
	gate := c.gate.published.Load()
	in, _ := c.inUse()
	s := status.Client{
		Name:          c.cfg.Name,
		ClientID:      c.cfg.ClientID,
		TokenEndpoint: *c.located.Load(),
		ClockSkew:     time.Duration(c.ahead.Load()).Seconds(),
		Gate: status.Gate{
			BlockedUntil: status.Instant(gate.BlockedUntil),
			RetryAt:      status.Instant(gate.RetryAt),
			Failures:     gate.Failures,
		},
	}
	for _, credential := range c.credentials {
		one := credential.status()
		one.InUse = credential == in
		s.Credentials = append(s.Credentials, one)
	}
	return s
}
