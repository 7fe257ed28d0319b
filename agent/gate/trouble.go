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
func (g *Gate) Trouble() *Trouble { return g.shown.Load() }

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
			g.tellHeldUp(p.Client)
		}
	}
}

// tellHeldUp logs, once until that is over, that a client waits for what failed for another one.
func (g *Gate) tellHeldUp(c *Client) {
	if g.trouble == nil || g.trouble.Client == "" || g.trouble.Client == c.cfg.Name || g.told[c] {
		return
	}
	if g.told == nil {
		g.told = map[*Client]bool{}
	}
	g.told[c] = true
	c.log.LogAttrs(context.Background(), slog.LevelWarn, "held up by another client, which is the same client to the server",
		append([]slog.Attr{slog.String(logkey.FailedClient, g.trouble.Client)}, g.trouble.Failure.Attributes()...)...)
}

// heed takes in a wait that others on the host know of. It reports whether that is news.
func (g *Gate) heed(until, now time.Time) bool {
	news := until.After(g.state.BlockedUntil) && !policy.Passed(now, until)
	g.state = g.state.Blocked(until)
	if news {
		g.trouble = elsewhere(now)
	}
	return news
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

// AnnounceWait logs a wait of the client that this process was not asked for itself.
func (c *Client) AnnounceWait() {
	trouble, until := c.Gate().Trouble(), c.Gate().View().BlockedUntil
	if trouble == nil || trouble.Client != "" || policy.Passed(time.Now(), until) {
		return
	}
	c.log.Info("waiting: the server asked an earlier process or another command for it",
		logkey.Until, until.Round(0).UTC().Format(time.RFC3339))
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
