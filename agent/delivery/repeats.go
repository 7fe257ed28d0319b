package delivery

import (
	"errors"
	"slices"
	"time"
)

const (
	// mostRepeats is how often in a row the actions follow the restoring of a content that they followed
	// already.
	mostRepeats = 3
	// repeatWindow is within what time of the last one a restoring counts as one more of a row: what the
	// actions set off shows up at the next check of the sink, or soon after.
	repeatWindow = 10 * time.Minute
)

// Why actions do not follow a change. Both need a person.
var (
	errChangesSink = errors.New("it changed the sink itself, which is written again without running it; have it leave the sink alone and write to another file")
	errRepeats     = errors.New("the sink was changed after each run; it is not run again before the next token; find out what changes the sink")
)

// repeats tells content that is news from content that only undoes what somebody did to the sink. If
// that is done by the sink's own actions, or by what they start, they would otherwise run for ever.
type repeats struct {
	last   tokenSet  // what was written last
	at     time.Time // when the actions last followed the restoring of the same
	row    int       // how often they did
	byHook bool      // the actions themselves were seen to change the sink
}

// next takes note of what was written and reports whether the actions are to follow. The error is there
// once for each row of restorings after which they do not any more.
func (r *repeats) next(shows tokenSet, now time.Time) (act bool, err error) {
	restored, byHook := slices.Equal(r.last, shows), r.byHook
	r.last, r.byHook = shows, false
	switch {
	case !restored:
		r.row = 0
		return true, nil
	case byHook:
		return false, nil
	case now.Sub(r.at) > repeatWindow:
		r.row = 0
	}
	r.at = now
	r.row++
	if r.row == mostRepeats+1 {
		return false, errRepeats
	}
	return r.row <= mostRepeats, nil
}
