// Package plugintest checks, in a provider's own tests, that it keeps the rules of package plugins.
//
// [Run] calls a [plugins.Provider] within the test; [RunExecutable] calls the built program, started as the agent
// does it. Both distrust the provider as the agent does, send its token requests to their own server, and damage only
// copies of its credential's files: every file in [plugins.Source.Files] that the configuration names is copied
// first. Caveats: they cannot detect whether Open uses the network, and only RunExecutable sees what the provider
// prints.
package plugintest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/credagent/credagent/plugins"
)

// Config describes what to test, and with what.
type Config struct {
	// Provider is the provider that [Run] and [Test] call.
	Provider plugins.Provider
	// Config is a valid configuration whose credential loads.
	Config map[string]any
	// Rotated has the same keys as Config, for another credential of the same kind. Without it, the use of a rotated
	// credential is not tested.
	Rotated map[string]any
	// Bad are configurations that Open must refuse, in addition to those derived from Config with unknown keys and
	// values of the wrong type.
	Bad []map[string]any
	// Secrets must never be shown. The values that the provider adds to a request and the lines of its credential's
	// files are always searched for.
	Secrets []string
}

// Run tests a provider, each rule in a subtest.
func Run(t *testing.T, c Config) {
	t.Helper()
	ask, err := newInProcess(c.Provider)
	if err != nil {
		t.Fatal(err)
	}
	run(t, c, ask)
}

// RunExecutable tests the program at a path, which is named credagent-provider-NAME. It leaves out the rules that can
// only be tested within the process.
func RunExecutable(t *testing.T, path string, c Config) {
	t.Helper()
	ask, err := newExecutable(t.TempDir(), path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, c, ask)
}

func run(t *testing.T, c Config, ask asker) {
	t.Helper()
	candidate, err := newCandidate(t.Context(), c, ask, t.TempDir())
	if err != nil {
		ask.close()
		t.Fatal(err)
	}
	defer candidate.close()
	for _, rule := range rules {
		if rule.within && candidate.within() == nil {
			continue
		}
		t.Run(rule.name, func(t *testing.T) {
			candidate.ctx = t.Context()
			if err := rule.broken(candidate); err != nil {
				t.Error(err)
			}
		})
	}
}

// Test is [Run] without a [testing.T]. Its error joins all failures.
func Test(ctx context.Context, c Config) error {
	dir, err := os.MkdirTemp("", "plugintest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ask, err := newInProcess(c.Provider)
	if err != nil {
		return err
	}
	candidate, err := newCandidate(ctx, c, ask, dir)
	if err != nil {
		ask.close()
		return err
	}
	defer candidate.close()
	return candidate.test()
}

func (c *candidate) test() error {
	var all []error
	for _, rule := range rules {
		if err := rule.broken(c); err != nil {
			all = append(all, fmt.Errorf("%s: %w", rule.name, err))
		}
	}
	return errors.Join(all...)
}
