package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/fsnotify/fsnotify"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/hoststate"
	"github.com/credagent/credagent/internal/filewatch"
)

// pollInterval is how often the configuration file is checked, for file systems without notifications.
const pollInterval = 30 * time.Second

// reloader reads the configuration again on SIGHUP, or when its file changed.
type reloader struct {
	load    func() (*config.Config, error)
	running *config.Config
	daemon  bool // SIGHUP reloads, and its outputs are claimed
	level   *slog.LevelVar
	log     *slog.Logger
	shared  *hoststate.Store // shared with the host's other commands
	ready   atomic.Bool      // READY=1 was sent to the service manager
}

// watch reloads at every SIGHUP, in a daemon, and with watch: true at every change of the file, until ctx ends.
func (r *reloader) watch(ctx context.Context, a *agent.Agent) {
	hangups := make(chan os.Signal, 1)
	if r.daemon {
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	file := openFileWatch(r.running, r.log)
	defer func() { file.close() }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		case <-file.changes:
			file.settling.Touch()
			continue
		case <-file.settling.C():
			file.settling.Done()
			if !file.changed() {
				continue
			}
		case <-file.tick:
			if !file.changed() {
				continue
			}
		}
		before := file.fingerprint()
		r.tell(ctx, a)
		file.close()
		file = openFileWatch(r.running, r.log)
		file.seen = before // a later change is a new one
		if r.running.Watch {
			file.settling.Touch()
		}
	}
}

// tell reloads the configuration, and notifies the service manager.
func (r *reloader) tell(ctx context.Context, a *agent.Agent) {
	if !r.ready.Load() { // READY=1 would be too early
		r.reload(ctx, a)
		return
	}
	say(r.log, reloading())
	r.reload(ctx, a)
	say(r.log, daemon.SdNotifyReady)
}

// reloading notifies the service manager when the reload began, as Type=notify-reload demands.
func reloading() string {
	return daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec()
}

// reload applies the new configuration, or explains why not and changes nothing.
func (r *reloader) reload(ctx context.Context, a *agent.Agent) {
	cfg, err := r.load()
	if err == nil {
		err = r.claim(cfg, ownedSinks(cfg))
	}
	if err != nil {
		a.ReloadFailed(err)
	} else if err = a.Reload(ctx, cfg); err != nil {
		r.release(ownedSinks(cfg))
	}
	if err != nil {
		r.log.Error("configuration not reloaded, the running one stays", "error", err)
		return
	}
	warn(cfg, r.log)
	if !reflect.DeepEqual(leftToStart(cfg), leftToStart(r.running)) {
		r.log.Warn("listen, socket, log.format and state take effect at the next start")
	}
	if identityMoved(r.running.Identity, cfg.Identity) {
		r.log.Warn("identity_endpoint.listen and header_file take effect at the next start")
	}
	if sidecarMoved(r.running.Sidecar, cfg.Sidecar) {
		r.log.Warn("auth_sidecar.listen takes effect at the next start")
	}
	r.level.Set(cfg.Log.Level)
	r.release(ownedSinks(r.running))
	if err := r.reclaim(cfg, ownedSinks(cfg)); err != nil {
		r.log.Error("another credagent writes a sink of the new configuration too", "error", err)
	}
	r.running = cfg
	r.log.Info("configuration reloaded", "config", cfg.Source, "tokens", len(cfg.Tokens), "sinks", len(cfg.Sinks))
}

// leftToStart returns the settings that take effect only at start.
func leftToStart(cfg *config.Config) any {
	return []any{cfg.Listen, cfg.Socket, cfg.Log.JSON, cfg.State}
}

// fileWatch detects changes of the configuration file, even if a link in its path is swapped, as the kubelet does.
// Without watch: true it does nothing and costs nothing.
type fileWatch struct {
	files    []string
	notifier filewatch.Notifier
	changes  <-chan fsnotify.Event
	tick     <-chan time.Time
	settling *filewatch.Settling
	seen     string
}

func openFileWatch(cfg *config.Config, log *slog.Logger) *fileWatch {
	f := &fileWatch{files: []string{cfg.Source}, settling: filewatch.NewSettling()}
	if !cfg.Watch {
		return f
	}
	f.tick = time.Tick(pollInterval)
	if notifier, err := filewatch.New(); err == nil {
		f.notifier, f.changes = notifier, notifier.Changes()
	} else {
		log.Warn("polling configuration file every 30 seconds: no change notifications", "error", err)
	}
	f.seen = f.fingerprint()
	return f
}

// fingerprint returns what identifies the content of the file now.
func (f *fileWatch) fingerprint() string {
	if f.notifier != nil {
		filewatch.Watch(f.notifier, f.files)
	}
	return filewatch.Fingerprint(f.files)
}

// changed reports whether the file has changed since the last call.
func (f *fileWatch) changed() bool {
	before := f.seen
	f.seen = f.fingerprint()
	return f.seen != before
}

func (f *fileWatch) close() {
	f.settling.Stop()
	if f.notifier != nil {
		_ = f.notifier.Close()
	}
}
