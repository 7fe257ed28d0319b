package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/hoststate"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/kubeapi"
)

// fromEnvironment is the source of a configuration without a file.
const fromEnvironment = "environment"

// configFlag adds -c to a command that reads a configuration.
func configFlag(c *cobra.Command) *string {
	file := pathFlag(c, "config", "c", "the configuration `file` (default $CREDAGENT_CONFIG, else the environment, else /etc/credagent/credagent.yaml)")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // fails only if the flag does not exist
	return file
}

// pathFlag adds a flag for a path. An empty one is a mistake, such as an unset variable, and does not mean the
// default.
func pathFlag(c *cobra.Command, name, shorthand, usage string) *string {
	path := new(string)
	c.Flags().VarP((*pathValue)(path), name, shorthand, usage)
	return path
}

// pathValue implements [pflag.Value].
type pathValue string

func (p *pathValue) String() string { return string(*p) }

func (p *pathValue) Set(path string) error {
	if path == "" {
		return errors.New("the path is empty")
	}
	*p = pathValue(path)
	return nil
}

func (p *pathValue) Type() string { return "string" }

// loadConfig reads the configuration named by the flag or the environment.
func loadConfig(flag string) (*config.Config, error) {
	path, fromEnv := config.Find(flag, os.LookupEnv)
	if fromEnv {
		return apart(config.FromEnv())
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if flag == "" && path == config.DefaultPath {
			return nil, noConfig(path)
		}
		return nil, &config.Error{Problems: []config.Problem{{
			File: path, Message: "no such file",
			Hint: "-c FILE or $CREDAGENT_CONFIG names the configuration; credagent init writes one, credagent demo needs none",
		}}}
	}
	return apart(config.Load(path, os.LookupEnv))
}

// apart refuses a configuration that would overwrite the agent's own runtime files.
func apart(cfg *config.Config, err error) (*config.Config, error) {
	if err != nil {
		return nil, err
	}
	if problems := cfg.Inside(runtimeFiles()); len(problems) > 0 {
		return nil, &config.Error{Problems: problems}
	}
	return cfg, nil
}

// runtimeFiles are the directories of the agent's own runtime files.
func runtimeFiles() []string {
	return hoststate.OwnDirectories(hoststate.RuntimeDirectories(os.Getenv))
}

// noConfig explains how to begin without a configuration.
func noConfig(path string) error {
	return &config.Error{Problems: []config.Problem{{
		File: path, Message: "there is no configuration",
		Hint: "credagent init writes one, credagent demo needs none, -c FILE names another, " +
			"and CREDAGENT_CLIENT_ID with CREDAGENT_TOKEN_URL, CREDAGENT_ISSUER or CREDAGENT_ENTRA_TENANT configures one token by the environment",
	}}}
}

// newAgent prepares an agent without saved state, and the registry of its metrics.
func newAgent(cfg *config.Config, log *slog.Logger) (*agent.Agent, *prometheus.Registry) {
	return newAgentWith(nil, nil, cfg, log)
}

// openHost opens the storage that outlives the process: the encrypted state, if it is configured, and the state
// shared by all commands on the host.
func openHost(cfg *config.Config, log *slog.Logger) (agent.Memory, *hoststate.Store, error) {
	memory, err := openMemory(cfg)
	if err != nil {
		return nil, nil, err
	}
	return memory, openShared(cfg, false, log), nil
}

func newAgentWith(memory agent.Memory, shared *hoststate.Store, cfg *config.Config, log *slog.Logger) (*agent.Agent, *prometheus.Registry) {
	registry := prometheus.NewRegistry()
	options := agent.Options{
		Config:   cfg,
		Version:  version(),
		Log:      log,
		Registry: registry,
		Builtin:  builtinNames(),
		Memory:   memory,
	}
	if shared != nil {
		options.Waits, options.Directories = shared, shared
	}
	return agent.New(options), registry
}

// openShared opens the state shared by all commands on the host. A probe creates no directory for it.
func openShared(cfg *config.Config, probe bool, log *slog.Logger) *hoststate.Store {
	o := hoststate.Options{Runtime: hoststate.RuntimeDirectories(os.Getenv), Probe: probe, Clock: hoststate.SystemClock()}
	if cfg.State != nil {
		o.State = cfg.State.Dir
	}
	shared, err := hoststate.Open(o)
	if err != nil {
		log.Warn("no writable runtime directory: a Retry-After is not shared with other credagent commands on this host", "error", err)
	}
	return shared
}

// checkTimeout is how long a start waits for providers to check their configuration. Otherwise one that hangs would
// delay every client at each start.
const checkTimeout = 5 * time.Second

// checkSoon refuses a configuration that a provider rejects within the time limit.
func checkSoon(ctx context.Context, a *agent.Agent, limit time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return a.CheckSoon(ctx, waiting)
}

// openMemory opens the encrypted state; nil if none is configured.
func openMemory(cfg *config.Config) (agent.Memory, error) {
	if cfg.State == nil {
		return nil, nil
	}
	opened, err := openRecords(cfg.State)
	var setup *store.SetupError
	var later *statedError
	if errors.As(err, &setup) && !errors.As(err, &later) {
		return nil, &config.Error{Problems: []config.Problem{cfg.Problem("state."+setup.Setting, setup.Error())}}
	}
	if err != nil {
		return nil, err
	}
	return opened, nil
}

func openRecords(s *config.State) (agent.Memory, error) {
	if s.Secret != "" {
		return openSecret(kubeapi.New(kubeapi.Options{}), kubeapi.Namespace(), s)
	}
	return store.Open(s.Dir, s.KeyFile)
}

// openSecret opens the state in a Secret. An API server that is unreachable or overloaded is no mistake in the
// configuration: a later start may succeed.
func openSecret(api *kubeapi.Client, namespace string, s *config.State) (agent.Memory, error) {
	opened, err := store.OpenSecret(api, namespace, s.Secret, s.KeyFile)
	if err != nil && api.Wait() > 0 {
		return nil, &statedError{exitNoToken, err}
	}
	return opened, err
}

func builtinNames() []string { return slices.Sorted(maps.Keys(builtin())) }
