// Package api serves over HTTP what the agent knows: probes, metrics and status to anybody who
// reaches the listen address, and tokens to workloads, each on a listener of its own.
//
// No request to it holds the agent up, and none sends one to an authorization server that the agent
// would not send by its own rules. What the listen address serves never has a token in it.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/credagent/credagent/agent/status"
)

// stopTime is how long answers under way have when the agent stops.
const stopTime = time.Second

// Source is where the answers come from.
type Source interface {
	Status() status.Status
	Alive() bool
}

// Handler returns the routes of the listen address.
func Handler(source Source, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		if !source.Alive() {
			http.Error(w, "the agent's goroutines do not get to run", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "alive")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s := source.Status(); !s.Ready {
			http.Error(w, strings.Join(s.NotReady, "\n"), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, source.Status()) })
	mux.Handle("GET /metrics", metrics)
	newPage(source).route(mux)
	return mux
}

// writeJSON answers with a value that nobody is to keep.
func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, "the answer cannot be written as JSON", http.StatusInternalServerError)
		return
	}
	writeBody(w, status, append(body, '\n'))
}

// writeBody answers with JSON that nobody is to keep. If it cannot be written, the caller is gone.
func writeBody(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// Serve serves handler on listener until ctx ends, to a bounded number of connections that have to
// get on with it.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx }, // ends what streams
		ConnContext:       withConn,
	}
	ended := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(ended)
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		if server.Shutdown(stopping) != nil {
			_ = server.Close()
		}
	})()
	if err := server.Serve(bound(listener, mostConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	}
	<-ended // Serve returns before the last answers are given
	return nil
}
