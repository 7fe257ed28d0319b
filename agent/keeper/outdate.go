package keeper

import "time"

// Outdate has the token replaced as soon as its gate lets it, because whatever was issued at or before an
// instant, by the wall clock, is no good any more. It reports false for a token that was asked for later,
// which stays. The old token is kept until there is a new one.
func (k *Keeper) Outdate(before time.Time) (outdated bool) {
	if !k.IssuedBy(before) {
		return false
	}
	now := time.Now() // of this process, so that setting the clock cannot make it ask again and again
	k.outdating.Add(1)
	k.work.Post(func() { // also for the keeper that takes this one's place
		defer k.outdating.Add(-1)
		if k.view.Token.AccessToken.IsZero() || k.view.askedAt.After(now) {
			return
		}
		k.outdate = now
		k.edit().outdated = true
		k.publish()
	})
	return true
}

// IssuedBy reports whether there is a token that may have been issued at or before an instant.
func (k *Keeper) IssuedBy(before time.Time) bool {
	v := k.published.Load()
	return !v.Token.AccessToken.IsZero() && !v.askedAt.Round(0).After(before.Round(0))
}

// IsOutdated reports whether the token is yet to be replaced, after [Keeper.Outdate].
func (k *Keeper) IsOutdated() bool { return k.outdating.Load() > 0 || k.published.Load().outdated }
