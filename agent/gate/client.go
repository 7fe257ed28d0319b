package gate

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/agent/oauth"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/logkey"
)

// Client is a registered client at one authorization server: where its requests go and what
// authenticates them. Only its gate sends its requests.
type Client struct {
	cfg         *config.Client
	log         *slog.Logger
	set         *Set
	passes      Key                  // under which the set finds it, see [Set.NewClient]
	gate        atomic.Pointer[Gate] // the one that requests pass: another one once the token endpoint is known
	credentials []*credential        // the first, then the fallback where there is one
	endpoint    *exchange.Endpoint
	metrics     *metrics.Metrics
	hidden      []string               // values that are not shown where a server repeats them
	located     atomic.Pointer[string] // the token endpoint; "" while it is not known
	ahead       atomic.Int64           // the server's clock before this host's, nanoseconds

	choosing  sync.Mutex
	choice    policy.Choice // guarded by choosing, as is all that follows
	rotations int           // how often a credential was replaced
	compared  bool          // the credential is, or is about to be, compared with what an earlier process used
}

// NewClient adds a client, which is in the set until it retires. Open makes the provider of a credential.
// What is hidden are values that are not shown where a server repeats them.
func (s *Set) NewClient(cfg *config.Client, open func(provider.Spec) provider.Provider, hidden []string) *Client {
	c := &Client{
		cfg:      cfg,
		log:      s.o.Log.With(logkey.Client, cfg.Name),
		set:      s,
		endpoint: exchange.NewEndpoint(*cfg),
		metrics:  s.o.Metrics,
		hidden:   slices.Clip(hidden),
	}
	c.add(status.Primary, cfg.Credential, open)
	if cfg.FallbackCredential != nil {
		c.add(status.Fallback, *cfg.FallbackCredential, open)
	}
	c.locate(c.endpoint.URL())
	key := Key{ClientID: cfg.ClientID, Server: exchange.ServerOf(*cfg)}
	c.passes = key
	if cfg.Issuer != "" { // its gate may be another one at any time
		c.passes.Server = ""
	}
	s.join(c, key)
	return c
}

func (c *Client) add(name string, cfg config.Credential, open func(provider.Spec) provider.Provider) {
	p := open(provider.Spec{
		Client: c.cfg.Name, Provider: cfg.Provider, Config: cfg.Config,
		TokenEndpoint: c.endpoint.URL(), Issuer: c.issuer(),
	})
	c.credentials = append(c.credentials, newCredential(name, cfg, p, c.log))
}

// Config returns what the client is configured as. It is not to be changed.
func (c *Client) Config() *config.Client { return c.cfg }

// Gate returns the gate that the client's requests pass.
func (c *Client) Gate() *Gate { return c.gate.Load() }

// issuer returns the one spelling of the issuer that the client is configured with; "" for none.
func (c *Client) issuer() string {
	if c.cfg.Issuer == "" {
		return ""
	}
	return oauth.CanonicalEndpoint(c.cfg.Issuer)
}

// Binding says whose a token of the client is, for which such a form is sent.
func (c *Client) Binding(form url.Values) store.Binding {
	key := c.Gate().key
	return store.Binding{
		ClientID: key.ClientID,
		Server:   key.Server,
		Issuer:   c.issuer(),
		Request:  store.RequestHash(form),
		Provider: c.cfg.Credential.Provider,
	}
}

// Resume goes on where an earlier process was with a token of the client, which knew the issuer's token
// endpoint.
func (c *Client) Resume(b store.Binding) {
	if b.ClientID == c.cfg.ClientID && b.Issuer != "" && b.Issuer == c.issuer() && c.endpoint.URL() == "" {
		c.set.move(c, Key(b.GateKey()))
	}
}

// Succeeds reports whether the client is to its server what one is that it replaces. As far as it is
// known, it passes the same gate from now on.
func (c *Client) Succeeds(was *Client) bool {
	key := was.Gate().key
	c.Resume(store.Binding{ClientID: key.ClientID, Server: key.Server, Issuer: was.issuer()})
	return c.Gate() == was.Gate()
}

// ResetBackoff ends the own backoff of the client's gate, because the configuration or a credential
// changed. What the server asked for stays.
func (c *Client) ResetBackoff() { c.Gate().edit(policy.Gate.WithoutBackoff) }

// close ends the providers' processes.
func (c *Client) close() {
	for _, in := range c.credentials {
		in.provider.Close()
	}
}

// found is where a request goes.
type found struct {
	request provider.Request
	key     Key
	waits   time.Time        // until when other commands on the host know that the server asked for a wait
	turn    func()           // gives back the turn among the host's commands; nil where none was needed
	held    bool             // nobody was asked, because of that wait
	failed  *exchange.Answer // nil where it was found
	unnoted error            // why the request may not be sent without a note; nil where it may
}

// find finds the token endpoint, by asking the issuer if need be.
func (c *Client) find(ctx context.Context) found {
	request, failed := c.endpoint.Request(ctx)
	if failed != nil {
		failed.Cut = ctx.Err() != nil && failed.Failure.Status == 0
		return found{failed: failed}
	}
	c.locate(request.TokenEndpoint)
	request.ClientID = c.cfg.ClientID
	return found{request: request, key: keyOf(c.cfg.ClientID, request.TokenEndpoint)}
}

// exchange makes one token request.
func (c *Client) exchange(ctx context.Context, r Request, request provider.Request) exchange.Answer {
	request.Form, request.Grant = r.Form(), grantOf(r.Config)
	in, rotations := c.inUse()
	reply, err := in.provider.Exchange(ctx, request)
	if err == nil {
		reply = exchange.Hide(reply, c.hiddenIn(r)...)
	}
	got := exchange.Read(request.Form.Get("grant_type"), reply, err, request.Timeout, time.Now())
	if err != nil {
		in.learn(exchange.CredentialOf(err))
		got.Cut = ctx.Err() != nil
	} else {
		in.learn(reply.Credential)
		c.compareClocks(got.Ahead)
		if reply.Status == http.StatusNotFound || reply.Status == http.StatusGone {
			if c.endpoint.Moved(ctx, request) {
				got.Fail(&exchange.Failure{Class: policy.Transient, Status: reply.Status, Message: "the token endpoint has moved: the issuer's metadata names another one now"}, true)
			}
		}
	}
	if !got.Cut {
		got.Switched = c.judge(in, got.Failure, rotations)
	}
	return got
}

// hiddenIn are the values that are not shown where the answer to a request repeats them.
func (c *Client) hiddenIn(r Request) []string {
	if r.Held == nil {
		return c.hidden
	}
	return append(c.hidden, r.Held().Reveal())
}

// count counts a request if it was sent, and logs what a person should know of its answer.
func (c *Client) count(token string, got exchange.Answer) {
	if got.Failure == nil || !got.Failure.Local {
		c.metrics.Requested(c.cfg.Name, token, got.Outcome.Class, got.At.Sub(got.Sent))
	}
	if got.Capped {
		c.log.Error("server asked for more than a day, waiting one day", logkey.Error, got.Failure)
	}
	if got.Unread != "" {
		c.log.Warn("header that asks for a wait cannot be read and counts as absent", logkey.Header, got.Unread)
	}
}

// compareClocks says when this host's clock has come to be too far from the server's.
func (c *Client) compareClocks(ahead time.Duration) {
	before := time.Duration(c.ahead.Swap(int64(ahead)))
	if policy.Skewed(ahead) && !policy.Skewed(before) {
		c.log.Warn("clock differs from the server's", logkey.Skew, ahead,
			logkey.Advice, "set this host's clock, it is "+exchange.Apart(ahead)+" the server's")
	}
}

// inUse is the credential to authenticate with, as of so many rotations.
func (c *Client) inUse() (in *credential, rotations int) {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	return c.chosen(), c.rotations
}

// chosen is the credential in use; c.choosing is held.
func (c *Client) chosen() *credential {
	if c.choice.Fallback {
		return c.credentials[1]
	}
	return c.credentials[0]
}

// judge learns from an answer whether a credential is accepted. It reports whether the client has
// switched to its fallback, which is to be tried at once.
func (c *Client) judge(in *credential, failure *exchange.Failure, rotations int) (switched bool) {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	if rotations != c.rotations {
		return false // it was replaced meanwhile: the answer says nothing of the new one
	}
	if in != c.chosen() { // another request, under way at the same time, was the first to be refused
		return failure != nil && failure.Class == policy.Credential && !c.choice.Spent
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
		in.log.LogAttrs(context.Background(), slog.LevelError, "credential is not accepted, the other one is next", failure.Attributes()...)
	}
	return switched
}

// rotated takes note that the files of a credential were replaced. It reports whether that
// credential is in use from now on.
func (c *Client) rotated(changed *credential) (inUse bool) {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	c.rotations++
	if changed.name == status.Primary {
		c.choice = policy.Choice{}
	} else {
		c.choice = c.choice.FallbackChanged()
	}
	return c.chosen() == changed
}

// Retire ends a client: what is under way is seen through. The answer to that is no reason to use the
// fallback any more: a client that takes this one's place would not know of it, and ask with the first
// credential again.
func (c *Client) Retire() {
	c.choosing.Lock()
	c.rotations++
	c.choosing.Unlock()
	c.Gate().Finish(c)
	c.close()
	c.set.leave(c)
}

// Saved returns what a later process has to know of the client's credentials.
func (c *Client) Saved() store.Credential {
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

// Restore takes over which credential an earlier process used, unless the client has used one itself, or
// was compared with that already.
func (c *Client) Restore(r store.Credential) {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	if c.compared || c.credentials[0].published.Load().known.Identity != "" {
		return
	}
	if len(c.credentials) > 1 {
		c.choice = r.Choice
	}
	c.credentials[0].earlier = &r
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	c.set.restored[c] = true
}

// locate publishes where the client's requests go.
func (c *Client) locate(endpoint string) {
	if at := c.located.Load(); at == nil || *at != endpoint {
		c.located.Store(&endpoint)
	}
}

// Status returns what there is to tell of the client.
func (c *Client) Status() status.Client {
	in, _ := c.inUse()
	s := status.Client{
		Name:          c.cfg.Name,
		ClientID:      c.cfg.ClientID,
		TokenEndpoint: *c.located.Load(),
		ClockSkew:     time.Duration(c.ahead.Load()).Seconds(),
		Gate:          c.gateStatus(),
	}
	for _, credential := range c.credentials {
		one := credential.status()
		one.InUse = credential == in
		s.Credentials = append(s.Credentials, one)
	}
	return s
}
