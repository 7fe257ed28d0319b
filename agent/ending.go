package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

// endings remembers what was said of credentials that end, so that each is said once. It belongs to
// the watch's goroutine.
type endings map[*credential]ending

type ending struct {
	identity string
	notice   policy.ExpiryNotice
}

// look says of every credential whose end has come nearer what a person has to know.
func (e *endings) look(now time.Time, clients map[string]*client) {
	next := make(endings, len(*e))
	for _, c := range clients {
		for _, in := range c.credentials {
			known := in.published.Load().known
			said := (*e)[in]
			if said.identity != known.Identity {
				said = ending{identity: known.Identity}
			}
			if notice := policy.NoticeOf(now, known.NotBefore, known.NotAfter); notice > said.notice {
				said.notice = notice
				in.warn(now, notice)
			}
			next[in] = said
		}
	}
	*e = next
}

// warn logs that the credential ends.
func (c *credential) warn(now time.Time, notice policy.ExpiryNotice) {
	known := c.published.Load().known
	level, message := slog.LevelWarn, "credential ends soon"
	switch notice {
	case policy.NoNotice:
		return
	case policy.Expired:
		level, message = slog.LevelError, "credential has expired"
	}
	c.log.LogAttrs(context.Background(), level, message, slog.String(keyIdentity, known.Identity),
		slog.String(keyNotAfter, stamp(known.NotAfter)), slog.Duration(keyLeft, known.NotAfter.Sub(now).Round(time.Minute)),
		slog.String(keyAdvice, "register a new one at the server and put it into the credential's files"))
}
