package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/process"
)

func newRun() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Keep every token fresh and every sink up to date",
		Long: `run is the daemon. It is ready (sd_notify READY=1, /readyz 200) when every token has been
acquired and every sink written. SIGHUP makes it read its configuration again: it is checked
as a whole, then applied; what did not change keeps its tokens and schedule. SIGTERM stops it within
five seconds; the files stay, because the tokens in them are still good.`,
		Example: "  credagent run -c /etc/credagent/credagent.yaml",
		Args:    noArguments,
	}
	file := configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		detachLog(c)
		defer endInTime(c.Context(), c.ErrOrStderr())()
		cfg, err := loadConfig(*file)
		if err != nil {
			return err
		}
		level := new(slog.LevelVar)
		level.Set(cfg.Log.Level)
		r := &reloader{
			load:    func() (*config.Config, error) { return loadConfig(*file) },
			running: cfg, daemon: true, level: level, log: newLoggerAt(level, cfg, c.ErrOrStderr()),
		}
		return run(c.Context(), r, func(ctx context.Context, a *agent.Agent) { notify(ctx, a, &r.ready, r.log) })
	}
	return c
}

// run runs an agent with its servers, and along next to it, until ctx ends.
func run(ctx context.Context, r *reloader, along func(context.Context, *agent.Agent)) error {
	cfg, log := r.running, r.log
	warn(cfg, log)
	memory, shared, err := openHost(cfg, log)
	if err != nil {
		return err
	}
	r.shared = shared
	defer shared.Close()
	owned := append(ownedAtStart(cfg), ownedSinks(cfg)...)
	if err := r.claim(cfg, owned); err != nil {
		return err
	}
	a, registry := newAgentWith(memory, shared, cfg, log)
	if err := a.Open(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	if cfg.Listen != "" {
		// Before the first request: a start that hangs must be visible.
		server := statusServer{listen: cfg.Listen, agent: a, registry: registry, log: log}
		if err := server.open(); err != nil {
			return &config.Error{Problems: []config.Problem{cfg.Problem("listen", err.Error())}}
		}
		running.Go(func() { server.serve(ctx) })
	}
	if err := serveTokens(ctx, &running, a, r); err != nil {
		return err
	}
	if err := r.reclaim(cfg, owned); err != nil {
		return err
	}
	running.Go(func() { process.Reap(ctx) })
	running.Go(func() { along(ctx, a) })
	if err := checkSoon(ctx, a, checkTimeout); err != nil {
		return err
	}
	running.Go(func() { r.watch(ctx, a) })
	thrifty()
	log.Info("agent started", "version", version(), "config", cfg.Source, "tokens", len(cfg.Tokens), "sinks", len(cfg.Sinks))
	a.Run(ctx)
	log.Info("agent stopped")
	return nil
}

// serveTokens opens the servers that hand out tokens, and serves them until ctx ends.
func serveTokens(ctx context.Context, running *sync.WaitGroup, a *agent.Agent, r *reloader) error {
	cfg := r.running
	for _, server := range []struct {
		wanted bool
		open   func(*config.Config, *agent.Agent, *slog.Logger) (serve func(context.Context), err error)
	}{
		{cfg.Socket != nil, openSocket},
		{cfg.Identity != nil, openIdentity},
		{cfg.Sidecar != nil, openSidecar},
	} {
		if !server.wanted {
			continue
		}
		serve, err := server.open(cfg, a, r.log)
		if err != nil {
			return err
		}
		running.Go(func() { serve(ctx) })
	}
	return nil
}

// thriftyPercent is a daemon's GOGC. Go's default of 100 would double its memory, and save only a collection every
// few minutes.
const thriftyPercent = 50

// thrifty trades a little processor time for less memory, unless GOGC is set.
func thrifty() {
	if _, said := os.LookupEnv("GOGC"); !said {
		debug.SetGCPercent(thriftyPercent)
	}
}

func warn(cfg *config.Config, log *slog.Logger) {
	for _, problem := range slices.Concat(cfg.Warnings, agent.SharedClients(cfg)) {
		log.Warn("configuration", "warning", fmt.Sprint(problem))
	}
}
