package keeper

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/credagent/credagent/internal/logkey"
)

// Cause is why there is no newer token, and what to do about it, as far as anything is known. A token that
// was not asked for itself waits for what failed for another.
func (k *Keeper) Cause() (what, advice string) {
	trouble, own := k.client.Gate().Trouble(), k.published.Load().history().Failure
	if trouble == nil || own.Class.Lasting() {
		return own.Message, own.Advice
	}
	what, advice = trouble.Failure.Error(), trouble.Failure.Advice
	if of := trouble.Client; of != "" && of != k.cfg.Client {
		what = fmt.Sprintf("client %q, which is the same client to the server: %s", of, what)
	}
	return what, advice
}

// logExpiry says once that the token has expired and nothing replaces it. A server that hands out one
// token until its end is asked at that end: only when that fails is there anything to say.
func (k *Keeper) logExpiry(now time.Time) {
	v := k.view
	if !k.willExpire() || v.Token.ValidAt(now) {
		return
	}
	what, advice := k.Cause()
	if what == "" && v.Token.RefreshOn.After(v.Token.Expiry) {
		return
	}
	k.expired = v.Token.Expiry
	attrs := []slog.Attr{
		slog.String(logkey.Expiry, stamp(v.Token.Expiry)),
		slog.String(logkey.Error, cmp.Or(what, "the request for another one has no answer yet")),
	}
	if advice != "" {
		attrs = append(attrs, slog.String(logkey.Advice, advice))
	}
	k.log().LogAttrs(context.Background(), slog.LevelError, "token expired, nothing to replace it yet", attrs...)
}

// willExpire reports whether the token's end is yet to be told.
func (k *Keeper) willExpire() bool {
	t := k.view.Token
	return !t.AccessToken.IsZero() && !k.expired.Equal(t.Expiry)
}

// rest has the next step come in time: for the request that is planned, unless one is under way, whose
// answer brings the step, and for the token's end.
func (k *Keeper) rest(now time.Time) {
	next := k.nextAt()
	if end := k.view.Token.Expiry; k.willExpire() && end.After(now) && (k.asking || end.Before(next)) {
		next = end
	} else if k.asking {
		return
	}
	k.work.Retry(next.Sub(now))
}
