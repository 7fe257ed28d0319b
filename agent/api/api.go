// Package api serves the agent's data over HTTP: probes, metrics and status to anyone who can reach the listen
// address, and tokens to workloads, each on its own listener.
//
// No request to it blocks the agent, and none causes a token request that the agent's own rules forbid. Nothing that
// the listen address serves contains a token.
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
	"github.com/credagent/credagent/internal/loopback"
)

// stopTimeout is how long answers under way may take when the agent stops.
const stopTimeout = time.Second

// Source provides the answers.
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
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		guard(w.Header())
		metrics.ServeHTTP(w, r)
	})
	newPage(source).route(mux)
	return withJSONErrors(mux)
}

// guard keeps browsers from misinterpreting an answer's type, or giving it to another site's page.
func guard(header http.Header) {
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// withJSONErrors answers unrouted requests in JSON, because the callers are programs.
func withJSONErrors(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		probe := &statusOnly{header: http.Header{}}
		handler.ServeHTTP(probe, r)
		p := &problem{status: http.StatusNotFound, Code: "not_found", Message: "there is nothing at this path"}
		if probe.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", probe.header.Get("Allow"))
			p = &problem{status: probe.status, Code: "method_not_allowed", Message: "the method is GET"}
		}
		writeProblem(w, p)
	})
}

// statusOnly keeps an answer's status and header, and drops the body.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(p []byte) (int, error) { return len(p), nil }

// ForHost serves only requests whose Host is loopback or the listen host, if the listen address is loopback: so no
// page can read it by DNS rebinding.
func ForHost(listener net.Listener, listen string, next http.Handler) http.Handler {
	at, ok := listener.Addr().(*net.TCPAddr)
	if !ok || !at.IP.IsLoopback() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback.IsHostPort(r.Host) && !strings.EqualFold(hostOf(r.Host), hostOf(listen)) {
			writeProblem(w, &problem{
				status: http.StatusForbidden, Code: "forbidden",
				Message: "only requests to a loopback host are answered, such as 127.0.0.1",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostOf returns a Host without its port.
func hostOf(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

// writeJSON answers with a value that must not be cached.
func writeJSON(w http.ResponseWriter, status int, value any) {
	writeAs(w, "application/json", status, value)
}

// writeAs is writeJSON for a type of content that is JSON too.
func writeAs(w http.ResponseWriter, contentType string, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, "the answer cannot be written as JSON", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	writeBody(w, status, append(body, '\n'))
}

// writeBody answers with JSON that must not be cached. If it cannot be written, the caller is gone.
func writeBody(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json")
	}
	header.Set("Cache-Control", "no-store")
	guard(header)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// Serve serves handler on listener until ctx ends, with limits on the number of connections and their times.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx }, // ends streams
		ConnContext:       withConn,
	}
	ended := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(ended)
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if server.Shutdown(stopping) != nil {
			_ = server.Close()
		}
	})()
	if err := server.Serve(bound(listener, limits{mostConnections, mostOfOne})); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	}
	<-ended // Serve returns before the last answers are given
	return nil
}
