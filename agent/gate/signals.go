package gate

import (
	"context"
	"log/slog"
	"math/big"
	"strings"
	"time"

	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/logkey"
)

// CertificateRevoked has the client use its fallback from now on, where a certificate is the first
// credential's and is in use: one early refresh proves the fallback. It reports whether the certificate is
// one of the client's, and may take as long as its providers do.
func (c *Client) CertificateRevoked(ctx context.Context, serial string) (ours bool) {
	for _, in := range c.credentials {
		known := in.published.Load().known
		if known.Serial == "" && known.Identity == "" { // not loaded yet
			if loaded, err := in.load(ctx); err == nil {
				in.learn(loaded)
				known = loaded
			}
		}
		if sameSerial(known.Serial, serial) {
			c.revoked(in)
			return true
		}
	}
	return false
}

// revoked says that a credential was revoked, and stops using it where there is another one.
func (c *Client) revoked(in *credential) {
	in.found("its certificate was revoked, as a signal says")
	c.choosing.Lock()
	switched := in.name == status.Primary && len(c.credentials) > 1 && !c.choice.Fallback
	if switched {
		c.choice, _ = c.choice.Refused()
	}
	c.choosing.Unlock()
	in.log.Error("certificate was revoked, as a signal says", logkey.Identity, in.published.Load().known.Identity,
		logkey.Advice, "register a new certificate at the server and put it into the credential's files")
	if switched {
		c.set.o.Replaced(c.cfg)
		c.ResetBackoff()
	}
}

// sameSerial compares a serial number in hexadecimal with one in whatever form a transmitter writes it.
func sameSerial(ours, theirs string) bool {
	want, ok := new(big.Int).SetString(ours, 16)
	if !ok {
		return false
	}
	text := strings.NewReplacer(":", "", " ", "", "-", "").Replace(theirs)
	text = strings.TrimPrefix(strings.TrimPrefix(text, "0x"), "0X")
	for _, base := range []int{16, 10} {
		if got, ok := new(big.Int).SetString(text, base); ok && got.Cmp(want) == 0 {
			return true
		}
	}
	return false
}

// Doubt has the client's requests wait as after a refusal, for a reason that people are told: the server may
// know the client no more. The request after the wait finds out.
func (c *Client) Doubt(reason string) {
	failure := &exchange.Failure{Class: policy.Refused, Message: reason, Local: true,
		Advice: "ask who runs the authorization server whether this client is still to have tokens"}
	c.log.LogAttrs(context.Background(), slog.LevelError, "account of the client is disabled, as a signal says", failure.Attributes()...)
	g := c.Gate()
	g.work.Post(func() {
		now := time.Now()
		outcome := policy.Outcome{Class: failure.Class, ClientWide: true}
		g.state = g.state.Answered(now, outcome, g.roll())
		g.noteFailure(c.cfg.Name, failure, outcome, now)
		g.publish()
	})
}
