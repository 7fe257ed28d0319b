// Package doctor checks a host and a configuration for problems, those that will show later too, and
// has a fix for each.
//
// It looks, asks and tries, and takes back what it tries: a directory beside a sink, an address that
// it listens at for a moment. It makes no token request. One caveat: it sees the host as the user
// that it runs as, so it is best run as the agent's user.
package doctor

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
)

// Level describes how bad a finding is.
type Level string

// The levels.
const (
	Problem Level = "problem" // it does not work, or will stop working
	Warning Level = "warning" // it works until something happens that does happen
	Note    Level = "note"    // it is well to know
)

// Finding is one thing that was found.
type Finding struct {
	Level Level    `json:"level"`
	About []string `json:"about,omitempty"` // the parts of the configuration that it concerns
	What  string   `json:"what"`
	Why   string   `json:"why,omitempty"` // what it will come to
	Fix   string   `json:"fix,omitempty"`
}

// Options are what is checked, and who can be asked.
type Options struct {
	Config *config.Config
	// Status asks the running agent.
	Status func(context.Context) (status.Status, error)
	// Check has a provider check its configuration and load a client's credential.
	Check func(ctx context.Context, client string, c config.Credential) (provider.Credential, []provider.Problem, error)
	// Providers lists the providers that there are.
	Providers func(context.Context) []provider.Info
}

// exam is one examination.
type exam struct {
	Options
	proc    string // where the system lists processes
	uid     int    // the agent's user, as far as it can be known
	judged  string // how that is known
	running *status.Status
	silence error // why no running agent answered
	now     time.Time
}

// Examine checks everything. Findings that are the same but for what they concern are one; the
// worst come first.
func Examine(ctx context.Context, o Options) []Finding {
	e := &exam{Options: o, proc: "/proc", now: time.Now()}
	if s, err := o.Status(ctx); err != nil {
		e.silence = err
	} else {
		e.running = &s
	}
	e.uid, e.judged = e.agentUser()
	checks := []func(context.Context) []Finding{
		e.identity, e.agent, e.configuration, e.directories, e.mounts, e.fileSystems, e.writes, e.consumers,
		e.credentials, e.plugins, e.clocks, e.state, e.listeners, e.callers, e.kernel,
	}
	found := make([][]Finding, len(checks))
	var looking sync.WaitGroup
	for i, check := range checks {
		looking.Go(func() { found[i] = check(ctx) })
	}
	looking.Wait()
	return merge(slices.Concat(found...))
}

// merge joins findings that say the same, in the order of their levels.
func merge(all []Finding) []Finding {
	var merged []Finding
	for _, f := range all {
		same := func(other Finding) bool {
			return f.Level == other.Level && f.What == other.What && f.Why == other.Why && f.Fix == other.Fix
		}
		if i := slices.IndexFunc(merged, same); i >= 0 {
			merged[i].About = appendNew(merged[i].About, f.About...)
		} else {
			f.About = slices.Clone(f.About)
			merged = append(merged, f)
		}
	}
	order := []Level{Problem, Warning, Note}
	slices.SortStableFunc(merged, func(a, b Finding) int {
		return slices.Index(order, a.Level) - slices.Index(order, b.Level)
	})
	return merged
}

func appendNew[T comparable](all []T, more ...T) []T {
	for _, one := range more {
		if !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return all
}

// about describes what findings concern.
func about(what string, found ...Finding) []Finding {
	for i := range found {
		found[i].About = append(found[i].About, what)
	}
	return found
}
