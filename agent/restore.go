package agent

import (
	"maps"
	"slices"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/logkey"
)

// restore takes over what an earlier process remembered. It comes before anything runs.
func (a *Agent) restore() {
	if a.options.Memory == nil {
		return
	}
	records, failed := a.options.Memory.LoadAll()
	for _, err := range failed {
		a.log.Warn("state cannot be used", logkey.Error, err)
	}
	a.gates.Restore(store.Gates(records))
	now := time.Now()
	a.unclaimed = map[string]store.Record{}
	for _, name := range oldestFirst(records) { // of a client's credentials the newest record counts
		r := records[name]
		switch part := a.parts.token(name); {
		case part != nil:
			part.keeper.Restore(r, now)
		case !r.Token.ValidAt(now) && policy.Passed(now, r.Gate.OpensAt()):
			a.forget(name)
		default:
			a.unclaimed[name] = r
		}
	}
}

// claim restores a token that came after the start from what an earlier process saved of it.
func (a *Agent) claim(t *tokenPart) {
	if r, ok := a.unclaimed[t.name()]; ok {
		delete(a.unclaimed, t.name())
		t.keeper.Restore(r, time.Now())
	}
}

// oldestFirst returns the names of records by when they were saved.
func oldestFirst(records map[string]store.Record) []string {
	return slices.SortedFunc(maps.Keys(records), func(a, b string) int {
		return records[a].SavedAt.Compare(records[b].SavedAt)
	})
}

// forget removes the record of a token that is no more, when there is nothing left in it to obey.
func (a *Agent) forget(name string) {
	if err := a.options.Memory.Remove(name); err != nil {
		a.log.Warn("state of a token that is no more cannot be removed", logkey.Token, name, logkey.Error, err)
	}
}
