package delivery

import (
	"log/slog"
	"maps"
	"path/filepath"
	"slices"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/host"
	"github.com/credagent/credagent/internal/logkey"
	"github.com/credagent/credagent/sink"
)

// directories remembers, across processes, the directories in which sinks were written.
type directories interface {
	// AddSinkDirectories adds those in use, each with the owner of its sinks other than the agent's user (-1 for
	// none), and returns all that it knows.
	AddSinkDirectories(used map[string]int) (ever map[string]int, err error)
}

// RemoveLeftOvers removes the temporary files that killed processes left in directories that no longer have a sink.
// Those of current sinks are cleaned when the sinks are opened. It may block as long as a file system does. Without
// remembered directories there is nothing to do.
func RemoveLeftOvers(known directories, sinks []config.Sink, log *slog.Logger) {
	if known == nil {
		return
	}
	used := map[string]int{}
	for _, s := range sinks {
		dir := filepath.Dir(s.Path)
		if _, shared := used[dir]; !shared {
			used[dir] = host.NoOwner
		}
		if s.Owner == "" {
			continue // no owner to look up, which would query the system's user database
		}
		if uid, err := host.User(s.Owner); err == nil {
			used[dir] = uid
		}
	}
	ever, err := known.AddSinkDirectories(used)
	for _, dir := range slices.Sorted(maps.Keys(ever)) {
		if _, inUse := used[dir]; !inUse {
			sink.RemoveLeftOvers(dir, ever[dir])
		}
	}
	if err != nil {
		log.Warn("temporary files of former sinks may stay", logkey.Error, err)
	}
}
