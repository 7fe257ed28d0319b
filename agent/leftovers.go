package agent

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

// removeLeftOvers removes the temporary files that killed processes left in directories where no sink is
// any more. In those of sinks that is done when they are opened. It may block as long as a file system
// does. Without a memory of directories there is nothing to do.
func removeLeftOvers(known Directories, sinks []config.Sink, log *slog.Logger) {
	if known == nil {
		return
	}
	used := map[string]int{}
	for _, s := range sinks {
		if !s.IsFile() {
			continue
		}
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
