package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/api"
	"github.com/credagent/credagent/agent/config"
)

func newRun() *cobra.Command {
	c := &cobra.Command{
		Use:   "run",
		Short: "Keep every token fresh and every sink up to date",
		Long: `run is the daemon. It is ready (sd_notify READY=1, /readyz 200) when every token has been
acquired and every sink written. SIGHUP makes it read its configuration again: it is checked
whole, then taken over; what did not change keeps its tokens and schedule. SIGTERM stops it within
five seconds; the files stay, as the tokens in them are still good.`,
		Example: "  credagent run -c /etc/credagent/credagent.yaml",
		Args:    noArguments,
	}
	file := configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		defer endInTime(c.Context(), c.ErrOrStderr())()
		cfg, err := loadConfig(*file)
		if err != nil {
			return err
		}
		level := new(slog.LevelVar)
		level.Set(cfg.Log.Level)
		return run(c.Context(), cfg, &reloader{
			file: *file, running: cfg, level: level, log: newLoggerAt(level, cfg, c.ErrOrStderr()),
		})
	}
	return c
}

func run(ctx context.Context, cfg *config.Config, r *reloader) error {
	log := r.log
	warn(cfg, log)
	a, registry, err := newRememberingAgent(cfg, log)
	if err != nil {
		return err
	}
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
		listener, err := net.Listen("tcp", cfg.Listen)
		if err != nil {
			return &config.Error{Problems: []config.Problem{cfg.Problem("listen", err.Error())}}
		}
		running.Go(func() { serve(ctx, listener, a, registry, log) })
	}
	if cfg.Socket != nil {
		serveSocket, err := openSocket(cfg, a, log)
		if err != nil {
			return err
		}
		running.Go(func() { serveSocket(ctx) })
	}
	if cfg.Identity != nil {
		serveIdentity, err := openIdentity(cfg, a, log)
		if err != nil {
			return err
		}
		running.Go(func() { serveIdentity(ctx) })
	}
	if err := checkSoon(ctx, a, checkTime); err != nil {
		return err
	}
	running.Go(func() { notify(ctx, a, &r.ready, log) })
	running.Go(func() { r.watch(ctx, a) })
	log.Info("agent started", "version", version(), "config", cfg.Source, "tokens", len(cfg.Tokens), "sinks", len(cfg.Sinks))
	a.Run(ctx)
	log.Info("agent stopped")
	return nil
}

func serve(ctx context.Context, listener net.Listener, a *agent.Agent, registry *prometheus.Registry, log *slog.Logger) {
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	log.Info("serving probes, metrics and status", "listen", listener.Addr().String())
	handler := api.Handler(a, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	if err := api.Serve(ctx, listener, handler, log); err != nil {
		log.Error("probes, metrics and status are gone", "error", err)
	}
}

func warn(cfg *config.Config, log *slog.Logger) {
	for _, problem := range cfg.Warnings {
		log.Warn("configuration", "warning", fmt.Sprint(problem))
	}
}
