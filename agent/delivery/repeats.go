package delivery

import (
	"errors"
	"slices"
	"time"
)

const (
	// mostRepeats is how often in a row the actions run after the same content was restored.
	mostRepeats = 3
	// repeatWindow is the time within which a restoration counts as part of the same row: an effect of the actions
	// shows at the next check of the sink, or soon after.
	repeatWindow = 10 * time.Minute
)

// Why actions do not run after a change. Both need a person.
var (
	errChangesSink = errors.New("it changed the sink itself, which is written again without running it; have it leave the sink alone and write to another file")
	errRepeats     = errors.New("the sink was changed after each run; it is not run again before the next token; find out what changes the sink")
)

// repeats distinguishes new content from content that only restores a sink that something changed. If the sink's own
// actions, or processes that they start, change it, they would otherwise run forever.
type repeats struct {
	last   tokenSet  // the last written content
	at     time.Time // when the actions last ran after a restoration of the same content
	row    int       // how often in a row
	byHook bool      // the actions themselves changed the sink
}

// next records a write and reports whether the actions should run. It returns the error once for each row of
// restorations, when they stop running.
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
