package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/api"
	"github.com/credagent/credagent/agent/config"
)

// openSocket prepares the local token API, and returns a function that serves it until a context ends. Its error
// is a [*config.Error].
func openSocket(cfg *config.Config, a *agent.Agent, log *slog.Logger) (serve func(context.Context), err error) {
	if err := a.ResolveAccess(); err != nil {
		return nil, err
	}
	file := api.SocketFile{Path: cfg.Socket.Path, Mode: cfg.Socket.Mode, Group: cfg.Socket.Group}
	listener, err := file.Listen(log)
	if err != nil {
		return nil, &config.Error{Problems: []config.Problem{cfg.Problem("socket.path", err.Error())}}
	}
	log.Info("serving the local token API", "socket", file.Path)
	return func(ctx context.Context) {
		if err := api.Serve(ctx, listener, api.Local(a, os.Geteuid(), log), log); err != nil {
			log.Error("local token API stopped", "error", err)
		}
	}, nil
}
