package main

import (
	"context"
	"log/slog"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/api"
	"github.com/credagent/credagent/agent/config"
)

// openIdentity prepares the identity endpoint, and returns a function that serves it until a context ends. Its
// error is a [*config.Error].
func openIdentity(cfg *config.Config, a *agent.Agent, log *slog.Logger) (serve func(context.Context), err error) {
	wrong := func(key string, err error) error {
		return &config.Error{Problems: []config.Problem{cfg.Problem("identity_endpoint."+key, err.Error())}}
	}
	listener, err := api.ListenLoopback(cfg.Identity.Listen)
	if err != nil {
		return nil, wrong("listen", err)
	}
	header, err := api.OpenHeader(cfg.Identity.HeaderFile)
	if err != nil {
		_ = listener.Close()
		return nil, wrong("header_file", err)
	}
	if header.Rejected != nil {
		log.Warn("identity header was not kept, workloads have to read the new one", "path", cfg.Identity.HeaderFile, "error", header.Rejected)
	}
	log.Info("serving the identity endpoint", "listen", listener.Addr().String(), "path", cfg.Identity.HeaderFile)
	return func(ctx context.Context) {
		if err := api.Serve(ctx, listener, api.Identity(a, header.Value, log), log); err != nil {
			log.Error("identity endpoint stopped", "error", err)
		}
	}, nil
}

// identityMoved reports whether a reload changed settings that take effect only at start.
func identityMoved(was, is *config.IdentityEndpoint) bool {
	if was == nil || is == nil {
		return was != is
	}
	return was.Listen != is.Listen || was.HeaderFile != is.HeaderFile
}
