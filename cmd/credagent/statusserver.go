package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/api"
)

// listenAgain is how often an address in use by another program is tried.
const listenAgain = 5 * time.Second

// statusServer serves probes, metrics and status.
type statusServer struct {
	listen   string
	agent    *agent.Agent
	registry *prometheus.Registry
	log      *slog.Logger

	listener net.Listener // nil while another program has the address
}

// open listens. It is not an error if another program uses the address: a program that takes a port must not prevent
// refreshes, so the agent continues without it and tries again.
func (s *statusServer) open() error {
	var err error
	s.listener, err = net.Listen("tcp", s.listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		s.listener = nil
		s.log.Warn("another program is listening at the status server's address, trying again", "listen", s.listen, "retry_in", listenAgain)
		return nil
	}
	return err
}

// serve serves until ctx ends, once the address is free.
func (s *statusServer) serve(ctx context.Context) {
	ticker := time.NewTicker(listenAgain)
	defer ticker.Stop()
	for s.listener == nil {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if listener, err := net.Listen("tcp", s.listen); err == nil {
			s.listener = listener
		}
	}
	ticker.Stop()
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.log.Info("serving probes, metrics and status", "listen", s.listener.Addr().String())
	metrics := api.Metrics(promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}), s.agent.WriteMetrics)
	handler := api.ForHost(s.listener, s.listen, api.Handler(s.agent, metrics))
	if err := api.Serve(ctx, s.listener, handler, s.log); err != nil {
		s.log.Error("status server stopped", "error", err)
	}
}
