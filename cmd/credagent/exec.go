package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/process"
	"github.com/credagent/credagent/internal/supervise"
)

// execFlags are the flags before the command.
type execFlags struct {
	file       *string
	tokens     []string
	onRefresh  string
	killSignal string
	killTime   time.Duration
}

func newExec() *cobra.Command {
	var f execFlags
	c := &cobra.Command{
		Use:   "exec [flags] -- COMMAND [ARGUMENT]...",
		Short: "Run a command with tokens in its environment, and keep them fresh",
		Long: `exec does what run does, and also runs COMMAND, once every token has been acquired and every sink
written. The command has the variables of all env sinks in its environment; configured by the
environment alone, it has the token in $CREDAGENT_ENV_VARIABLE, by default ACCESS_TOKEN.

Signals are passed on to the command, SIGHUP included, and exec exits when the command does, with its
status: 128+n for a signal, 127 if it is not found, 126 if it cannot be run. A refusal before the
start ends exec with the same status as once; temporary failures are retried until the command can start.

A process's environment does not change after it starts. --on-refresh chooses what happens when there is a
new token: nothing, a restart with the new environment, or a signal for a command that reads files.`,
		Example: `  credagent exec -c credagent.yaml -- /usr/bin/app --serve
  credagent exec --token graph --on-refresh restart -- /usr/bin/app
  credagent exec --on-refresh HUP -- nginx -g 'daemon off;'`,
		Args: wantCommand,
	}
	f.file = configFlag(c)
	flags := c.Flags()
	flags.SetInterspersed(false) // everything after the command is the command's
	flags.StringArrayVar(&f.tokens, "token", nil, "only this token and the sinks that need no other; can be repeated")
	flags.StringVar(&f.onRefresh, "on-refresh", "none", "what to do after a refresh: none, restart, or the name of a `signal` for the command")
	flags.StringVar(&f.killSignal, "kill-signal", "TERM", "the `signal` that ends the command for a restart")
	flags.DurationVar(&f.killTime, "kill-timeout", 10*time.Second, "how long it may take to end before it is killed; if given, also after a SIGTERM that was passed on; 0 is no limit")
	completeFlag(c, "token", tokenNames)
	completeFlag(c, "on-refresh", words(append([]string{"none", "restart"}, signalNames()...)...))
	completeFlag(c, "kill-signal", words(signalNames()...))
	c.RunE = func(c *cobra.Command, args []string) error { return execute(c, f, args) }
	return c
}

func wantCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return &usageError{c.CommandPath(), errors.New("the command to run is missing: give it behind --")}
	}
	return nil
}

// plan reads what to do with the command.
func (f execFlags) plan(c *cobra.Command) (supervise.Plan, error) {
	plan := supervise.Plan{Restart: f.onRefresh == "restart", RestartTime: f.killTime}
	var errs [2]error
	if !slices.Contains([]string{"none", "restart"}, f.onRefresh) {
		plan.ReloadSignal, errs[0] = process.ParseSignal(f.onRefresh)
	}
	plan.KillSignal, errs[1] = process.ParseSignal(f.killSignal)
	switch {
	case errs[0] != nil:
		return plan, &usageError{c.CommandPath(), fmt.Errorf("--on-refresh: none, restart or a signal: %w", errs[0])}
	case errs[1] != nil:
		return plan, &usageError{c.CommandPath(), fmt.Errorf("--kill-signal: %w", errs[1])}
	case f.killTime < 0:
		return plan, &usageError{c.CommandPath(), fmt.Errorf("--kill-timeout: %v is negative", f.killTime)}
	}
	if c.Flags().Changed("kill-timeout") {
		plan.StopTime = f.killTime
	}
	return plan, nil
}

func execute(c *cobra.Command, f execFlags, command []string) error {
	plan, err := f.plan(c)
	if err != nil {
		return err
	}
	detachLog(c)
	cfg, secrets, err := f.load()
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	level.Set(cfg.Log.Level)
	log := newLoggerAt(level, cfg, c.ErrOrStderr())
	supervisor, err := supervise.New(supervise.Options{
		Plan: plan, Command: command, Environ: os.Environ(), Without: secrets, Log: log,
	})
	if err != nil {
		return err
	}
	// From here on the supervisor handles signals.
	if c.Context().Err() != nil {
		return &commandEnded{128 + int(syscall.SIGTERM)}
	}
	ctx, end := context.WithCancel(context.WithoutCancel(c.Context()))
	defer end()
	x := &execution{supervisor: supervisor, log: log, end: end}
	err = run(ctx, &reloader{
		load:    func() (*config.Config, error) { again, _, err := f.load(); return again, err },
		running: cfg, level: level, log: log,
	}, x.run)
	if err != nil {
		return err
	}
	return x.result()
}

// load reads the selected part of the configuration, and the names of the variables that hold a client's secret.
func (f execFlags) load() (*config.Config, []string, error) {
	_, fromEnv := config.Find(*f.file, os.LookupEnv)
	var cfg *config.Config
	var err error
	if fromEnv {
		cfg, err = apart(config.FromEnvForCommand())
	} else {
		cfg, err = loadConfig(*f.file)
	}
	if err != nil {
		return nil, nil, err
	}
	secrets := secretVariables(cfg)
	if cfg, err = cfg.Only(f.tokens); err != nil {
		return nil, nil, err
	}
	_, err = cfg.ForCommand()
	part := *cfg
	part.Signals = nil // a stream has one receiver, which is the daemon
	return &part, secrets, err
}

// secretVariables returns variables that are only for the providers' processes.
func secretVariables(cfg *config.Config) []string {
	var names []string
	for _, client := range cfg.Clients {
		names = append(names, provider.Variables(client.Credential.Config)...)
		if client.FallbackCredential != nil {
			names = append(names, provider.Variables(client.FallbackCredential.Config)...)
		}
	}
	return names
}

// execution runs the command next to the agent.
type execution struct {
	supervisor *supervise.Supervisor
	log        *slog.Logger
	end        context.CancelFunc // ends the agent

	status int
	err    error
}

// commandEnded means that the command ended, with its exit status.
type commandEnded struct{ status int }

// Error implements error.
func (e *commandEnded) Error() string {
	return fmt.Sprintf("the command exited with status %d", e.status)
}

func (x *execution) result() error {
	if x.err == nil && x.status != 0 {
		return &commandEnded{x.status}
	}
	return x.err
}

// run runs the command to its end, and then ends the agent.
func (x *execution) run(ctx context.Context, a *agent.Agent) {
	defer x.end()
	ctx, refuse := context.WithCancelCause(ctx)
	offers := make(chan supervise.Offer, 1)
	var following sync.WaitGroup
	following.Go(func() {
		if err := x.follow(ctx, a, offers); err != nil {
			refuse(err)
		}
	})
	x.status, x.err = x.supervisor.Run(ctx, offers)
	refuse(nil)
	following.Wait()
}

// follow offers the command its environment whenever that changes, until ctx ends. It returns early with a refusal
// that makes a first offer impossible.
func (x *execution) follow(ctx context.Context, a *agent.Agent, offers chan supervise.Offer) error {
	begun, wasReady := false, false
	due := time.NewTimer(dueTimeout) // a restored token may be due: wait a moment for its successor
	defer due.Stop()
	waited := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-due.C:
			waited = true
		case <-a.Changes():
		}
		s := a.Status()
		if s.Ready != wasReady {
			wasReady = s.Ready
			announce(x.log, s.Ready, s.NotReady)
		}
		can, err := startable(s, a)
		if err != nil && !begun {
			return err
		}
		offer, err := offerOf(s, a.Environ)
		switch {
		case begun && err != nil:
			x.log.Warn("command's environment cannot be made, it keeps what it has", "error", err)
		case err != nil && can:
			return err
		case !begun && !can:
			if err := a.Refused(); err != nil {
				return err
			}
		case !begun && !waited && anyDue(s):
		case settled(s.Sinks):
			begun = true
			replace(offers, offer)
		}
	}
}

// dueTimeout is how long a start waits for the successor of a token that is already due.
const dueTimeout = 3 * time.Second

// anyDue reports whether a token is due now and its request has not failed.
func anyDue(s status.Status) bool {
	return slices.ContainsFunc(s.Tokens, func(t status.Token) bool {
		return t.RefreshAt != nil && !t.RefreshAt.After(s.Now) && t.ConsecutiveFailures == 0
	})
}

// startable reports whether everything the command needs is ready: every token, and every sink except env files that
// cannot hold a token, whose variables are in the environment. A sink that can never be written is an error.
func startable(s status.Status, a *agent.Agent) (bool, error) {
	if s.Ready {
		return true, nil
	}
	envFiles, err := a.Unwritable()
	if err != nil {
		return false, err
	}
	for _, t := range s.Tokens {
		if !t.Valid {
			return false, nil
		}
	}
	for _, k := range s.Sinks {
		if !k.Holds && !slices.Contains(envFiles, k.Path) {
			return false, nil
		}
	}
	return true, nil
}

// replace makes an offer the newest one in the channel. There must be only one sender.
func replace(offers chan supervise.Offer, offer supervise.Offer) {
	select {
	case <-offers:
	default:
	}
	offers <- offer
}

// settled reports whether no sink is being written. A sink that waits to be retried does not count.
func settled(sinks []status.Sink) bool {
	return !slices.ContainsFunc(sinks, func(s status.Sink) bool { return !s.Holds && s.RetryAt == nil })
}

// offerOf returns what the command can have now: its variables, and a generation for the content of the sinks.
func offerOf(s status.Status, environ func() ([]string, error)) (supervise.Offer, error) {
	var generation strings.Builder
	for _, sink := range s.Sinks {
		fmt.Fprintln(&generation, sink.Path, sink.LastChange)
	}
	variables, err := environ()
	return supervise.Offer{Environ: variables, Generation: generation.String()}, err
}
