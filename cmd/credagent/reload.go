package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
)

// reloader reads the configuration again when told to.
type reloader struct {
	file    string // as given on the command line
	running *config.Config
	level   *slog.LevelVar
	log     *slog.Logger
	ready   atomic.Bool // the service manager was told READY=1
}

// watch reloads at every SIGHUP until ctx ends.
func (r *reloader) watch(ctx context.Context, a *agent.Agent) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			if !r.ready.Load() { // READY=1 would come too early
				r.reload(ctx, a)
				continue
			}
			say(r.log, reloading())
			r.reload(ctx, a)
			say(r.log, daemon.SdNotifyReady)
		}
	}
}

// reloading tells the service manager when the reload began, as Type=notify-reload demands.
func reloading() string {
	return daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec()
}

// reload takes the new configuration over, or says why not and changes nothing.
func (r *reloader) reload(ctx context.Context, a *agent.Agent) {
	cfg, err := loadConfig(r.file)
	if err == nil {
		err = a.Reload(ctx, cfg)
	} else {
		a.ReloadFailed()
	}
	if err != nil {
		r.log.Error("configuration not reloaded, the running one stays", "error", err)
		return
	}
	warn(cfg, r.log)
	if cfg.Listen != r.running.Listen || cfg.Log.JSON != r.running.Log.JSON {
		r.log.Warn("listen and log.format take effect at the next start")
	}
	r.level.Set(cfg.Log.Level)
	r.running = cfg
	r.log.Info("configuration reloaded", "config", cfg.Source, "tokens", len(cfg.Tokens), "sinks", len(cfg.Sinks))
}
