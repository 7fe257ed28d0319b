package gate

import (
	"context"
	"log/slog"
	"time"

	"github.com/credagent/credagent/agent/exchange"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/logkey"
)

// Trouble is why a gate holds requests back: all tokens that wait there have it in common.
type Trouble struct {
	Client  string // whose request failed; "" where the wait comes from elsewhere
	Failure *exchange.Failure
	At      time.Time
}

// Trouble returns why the gate holds requests back; nil for no reason that is known.
func (g *Gate) Trouble() *Trouble {
	if view := g.View(); view.Failures == 0 && policy.Passed(time.Now(), view.BlockedUntil) {
		return nil // a wait is over, and no request has gone out since
	}
	return g.shown.Load()
}

// explained is what a client's log says already: what holds it up.
type explained struct {
	waits *Client
	by    string // the client whose request failed; "" where the wait comes from elsewhere
}

// elsewhere is the reason for a wait that another process was asked for.
func elsewhere(now time.Time) *Trouble {
	return &Trouble{At: now, Failure: &exchange.Failure{
		Class: policy.Throttled, Local: true, Message: "the server asked an earlier process or another command for a wait",
	}}
}

// noteFailure takes note of what failed for every token that passes the gate.
func (g *Gate) noteFailure(client string, failure *exchange.Failure, o policy.Outcome, at time.Time) {
	if failure != nil && o.ClientWide {
		g.trouble = &Trouble{Client: client, Failure: failure, At: at}
		for _, p := range g.line.waiting {
			g.explainWait(p.Client)
		}
	}
}

// explainWait logs, once until that is over, that a client waits for what it does not find out by a request
// of its own: what failed for another client, or what another process was asked for.
func (g *Gate) explainWait(c *Client) {
	why := g.trouble
	if why == nil || why.Client == c.cfg.Name || g.told[explained{c, why.Client}] {
		return
	}
	if g.told == nil {
		g.told = map[explained]bool{}
	}
	g.told[explained{c, why.Client}] = true
	if why.Client == "" {
		c.log.Info("waiting: the server asked an earlier process or another command for it",
			logkey.Until, g.state.BlockedUntil.Round(0).UTC().Format(time.RFC3339))
		return
	}
	c.log.LogAttrs(context.Background(), slog.LevelWarn, "held up by another client, which is the same client to the server",
		append([]slog.Attr{slog.String(logkey.FailedClient, why.Client)}, why.Failure.Attributes()...)...)
}

// heed takes in a wait that others on the host know of.
func (g *Gate) heed(until, now time.Time) {
	if until.After(g.state.BlockedUntil) && !policy.Passed(now, until) {
		g.trouble = elsewhere(now)
	}
	g.state = g.state.Blocked(until)
}

// publish shows the gate's state to whoever reads it.
func (g *Gate) publish() {
	state := g.state
	if state.Failures == 0 && policy.Passed(time.Now(), state.BlockedUntil) {
		g.trouble, g.told = nil, nil
	}
	g.published.Store(&state)
	g.shown.Store(g.trouble)
}

// gateStatus is what there is to tell of the client's gate.
func (c *Client) gateStatus() status.Gate {
	view, trouble := c.Gate().View(), c.Gate().Trouble()
	s := status.Gate{
		BlockedUntil: status.Instant(view.BlockedUntil),
		RetryAt:      status.Instant(view.RetryAt),
		Failures:     view.Failures,
	}
	if trouble == nil {
		return s
	}
	s.LastOutcome, s.LastError, s.Advice = trouble.Failure.Class.String(), trouble.Failure.Error(), trouble.Failure.Advice
	s.LastErrorAt = status.Instant(trouble.At)
	if trouble.Client != c.cfg.Name {
		s.FailedClient = trouble.Client
	}
	return s
}
