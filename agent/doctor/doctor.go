// Package doctor checks a host and a configuration for problems, including ones that will only show later, and has a
// fix for each.
//
// Its tests leave nothing behind: it creates a directory next to a sink, or listens on an address for a moment, and
// undoes that. It makes no token request. One caveat: it sees the host as the user that it runs as, so run it as the
// agent's user.
package doctor

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/kubeapi"
)

// Level describes how bad a finding is.
type Level string

// The levels.
const (
	Problem Level = "problem" // it does not work, or will stop working
	Warning Level = "warning" // it works until something happens that is to be expected
	Note    Level = "note"    // it is good to know
)

// Finding is one finding.
type Finding struct {
	Level Level    `json:"level"`
	About []string `json:"about,omitempty"` // the parts of the configuration that it concerns
	What  string   `json:"what"`
	Why   string   `json:"why,omitempty"` // its consequences
	Fix   string   `json:"fix,omitempty"`
}

// Options configures what is checked, and how to get information.
type Options struct {
	Config *config.Config
	// Status asks the running agent.
	Status func(context.Context) (status.Status, error)
	// Check makes a provider check its configuration and load a client's credential.
	Check func(ctx context.Context, client string, c config.Credential) (provider.Credential, []provider.Problem, error)
	// Cluster answers questions about Secrets; nil for the cluster of this process's pod.
	Cluster *kubeapi.Client
	// Providers lists the installed providers.
	Providers func(context.Context) []provider.Info
}

// exam is one examination.
type exam struct {
	Options
	proc    string // the directory of the system's processes
	uid     int    // the agent's user, as far as known
	judged  string // how it is known
	running *status.Status
	silence error // why no running agent answered
	now     time.Time
}

// Examine checks everything. Findings that differ only in their objects are merged; the worst come first.
func Examine(ctx context.Context, o Options) []Finding {
	e := &exam{Options: o, proc: "/proc", now: time.Now()}
	if s, err := o.Status(ctx); err != nil {
		e.silence = err
	} else {
		e.running = &s
	}
	e.uid, e.judged = e.agentUser()
	checks := []func(context.Context) []Finding{
		e.identity, e.agent, e.configuration, e.directories, e.mounts, e.fileSystems, e.writes, e.consumers, e.secrets,
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

// merge merges equal findings, in the order of their levels.
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

// about sets the object of findings.
func about(what string, found ...Finding) []Finding {
	for i := range found {
		found[i].About = append(found[i].About, what)
	}
	return found
}
