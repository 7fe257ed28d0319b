package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/api"
	"github.com/credagent/credagent/agent/config"
)

// openSidecar prepares the auth sidecar, and returns what serves it until a context ends. Its error is a
// [*config.Error].
func openSidecar(cfg *config.Config, a *agent.Agent, log *slog.Logger) (serve func(context.Context), err error) {
	if err := a.ResolveAccess(); err != nil {
		return nil, err
	}
	listener, err := api.ListenUsers(cfg.Sidecar.Listen)
	if err != nil {
		return nil, &config.Error{Problems: []config.Problem{cfg.Problem("auth_sidecar.listen", err.Error())}}
	}
	log.Info("serving the auth sidecar", "listen", listener.Addr().String())
	return func(ctx context.Context) {
		if err := api.Serve(ctx, listener, api.Sidecar(a, os.Geteuid(), log), log); err != nil {
			log.Error("auth sidecar stopped", "error", err)
		}
	}, nil
}

// sidecarMoved reports whether a reload changed what only a start can.
func sidecarMoved(was, is *config.AuthSidecar) bool {
	if was == nil || is == nil {
		return was != is
	}
	return was.Listen != is.Listen
}
