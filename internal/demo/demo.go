// Package demo implements `credagent demo` and `credagent devserver`: the main job, without any setup, against its
// own authorization server, and that server alone.
//
// It owns a temporary directory, the server, the credentials made for it and what is shown. It
// promises to report "ok" only for what the server, or a reader of the files, has observed, to print nothing secret,
// and to leave nothing behind. Caveat: its tokens live for seconds, so it fails, correctly, on a machine that stalls
// for seconds.
package demo

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/devserver"
)

const (
	// Shortest is the shortest demo that has time for everything it shows.
	Shortest = 15 * time.Second
	// overtime is how long the last event may take beyond the requested time.
	overtime = 15 * time.Second
	// redrawEvery is the time between two pictures of the live view.
	redrawEvery = 200 * time.Millisecond
)

// The timing of the story. A refresh comes after five seconds, the agent's minimum; the lifetime is longer than the
// longest wait that then follows: 5.25 s + 7.5 s for the first retry after a failure, or + 6.6 s for the Retry-After
// with its jitter.
const (
	tokenLife  = 15 * time.Second
	refreshAt  = "35%"
	retryAfter = 6 * time.Second
)

// Options describes how to run the demo.
type Options struct {
	For     time.Duration // how long; at least Shortest
	Version string
	Builtin []string  // the credential providers that this executable serves as `provider NAME`
	Out     io.Writer // where everything is shown
	Screen  *Screen   // nil for one line an event
}

// stage is the demo while it runs.
type stage struct {
	length time.Duration
	server *devserver.Server
	world  *world
	agent  *agent.Agent
	show   *show
	seen   *observer
	reader *reader
	log    *tail
}

// Run shows the main job for as long as the options say. If ctx or the reader of Out ends, it ends early, which is
// not an error. An error names what was not shown, or what went wrong.
func Run(ctx context.Context, o Options) error {
	w, err := newWorld("credagent-demo-")
	if err != nil {
		return err
	}
	defer w.remove()
	server, err := startServer(w)
	if err != nil {
		return err
	}
	defer server.Close()
	s, err := newStage(o, w, server)
	if err != nil {
		return err
	}
	defer s.agent.Close()
	if err := s.agent.Open(); err != nil {
		return err
	}
	if err := s.agent.Check(ctx, false); err != nil && ctx.Err() == nil {
		return err
	}
	return s.run(ctx)
}

func startServer(w *world) (*devserver.Server, error) {
	server, err := devserver.New(devserver.Options{TTL: tokenLife})
	if err != nil {
		return nil, err
	}
	if err := w.enroll(server); err != nil {
		return nil, err
	}
	return server, server.Start()
}

func newStage(o Options, w *world, server *devserver.Server) (*stage, error) {
	text := w.configuration(server.TokenURL())
	cfg, err := config.Parse("demo.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		return nil, err
	}
	s := &stage{length: o.For, server: server, world: w, show: newShow(o.Out, o.Screen), seen: newObserver(), log: &tail{}}
	s.agent = agent.New(agent.Options{
		Config:   cfg,
		Version:  o.Version,
		Log:      slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Registry: prometheus.NewRegistry(),
		Builtin:  o.Builtin,
	})
	s.reader = newReader(w.path(rawSink), server.Valid, func(text string) { s.show.say("reader", text) })
	s.show.print("An authorization server runs at " + server.URL() + "; its tokens live for " + tokenLife.String() + ".\n" +
		"The agent is configured with:\n\n" + indent(text) + "\n")
	return s, nil
}

// run plays the script until it is over, then judges. Only then is the agent stopped, so that an early end does not
// cut off a request, which would count as a failure.
func (s *stage) run(outer context.Context) error {
	ctx, leave := context.WithCancel(outer)
	defer leave()
	s.show.gone = leave // further output has no reader
	behind, stop := context.WithCancel(context.WithoutCancel(outer))
	defer stop()
	var running sync.WaitGroup
	for _, part := range []func(context.Context){s.agent.Run, s.observe, s.reader.run, s.animate} {
		running.Go(func() { part(behind) })
	}
	err := s.perform(ctx)
	early := ctx.Err() != nil
	f := facts{requests: s.server.Requests(), early: s.server.RetryAfterViolations(), rotated: s.world.rotated}
	stop()
	running.Wait()
	s.show.close()
	if err != nil {
		return err
	}
	return s.conclude(f, early)
}

// observe reports what changes at the agent.
func (s *stage) observe(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.agent.Changes():
			s.observeNow()
		}
	}
}

func (s *stage) observeNow() {
	for _, line := range s.seen.changes(s.agent.Status()) {
		s.show.say("agent", line)
	}
}

// animate redraws the live view.
func (s *stage) animate(ctx context.Context) {
	if s.show.screen == nil {
		return
	}
	ticker := time.NewTicker(redrawEvery)
	defer ticker.Stop()
	for started := time.Now(); ; {
		s.show.draw(frame{
			elapsed:  time.Since(started),
			length:   s.length,
			server:   s.server.URL(),
			requests: len(s.server.Requests()),
			reading:  s.reader.report(),
			status:   s.agent.Status(),
		})
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// conclude shows what was seen to happen.
func (s *stage) conclude(f facts, early bool) error {
	s.observeNow()
	f.reading, f.writes, f.sinks = s.reader.report(), s.seen.writes, s.world.inspect(s.server.Valid)
	checks := judge(f)
	s.show.summary(checks, early)
	err := verdict(checks, early)
	if lines := s.log.String(); err != nil && lines != "" {
		s.show.print("The agent's last warnings:\n" + indent(lines))
	}
	return err
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ") + "\n"
}
