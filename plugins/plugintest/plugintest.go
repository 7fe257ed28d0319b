// Package plugintest checks, in a provider's own tests, that it keeps the rules of package plugins.
//
// [Run] asks a [plugins.Provider] within the test, [RunExecutable] the program it was built into,
// started as the agent does it. Both believe the provider as little as the agent would, send its
// token requests to a server of their own, and damage only copies of its credential's files: whatever
// in the configuration is one of [plugins.Source.Files] is copied first. Caveats: that Open uses no network
// is beyond them, and only RunExecutable sees what the provider prints.
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
	// Provider is what [Run] and [Test] ask.
	Provider plugins.Provider
	// Config is a sound configuration whose credential loads.
	Config map[string]any
	// Rotated has the same keys as Config, for another credential of the same kind. Without it,
	// nobody knows whether a rotated credential would be used.
	Rotated map[string]any
	// Bad are configurations that Open must refuse, beside those that are made of Config by adding
	// unknown keys and values of the wrong type.
	Bad []map[string]any
	// Secrets must never be shown. What the provider adds to a request and the lines of its
	// credential's files are looked for anyway.
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

// RunExecutable tests the program at a path, which is named credagent-provider-NAME. It leaves out
// the rules that show only from within.
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

// Test is [Run] without a [testing.T]. Its error joins what is wrong.
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
