package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/host"
	"github.com/credagent/credagent/internal/process"
)

// probeTimeout limits the whole probe.
const probeTimeout = 2 * time.Minute

func newValidate() *cobra.Command {
	c := &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration",
		Long: `validate checks the configuration, including each provider's own keys, without using the network or
reading a credential, and reports every problem at once. With --probe it also loads each credential
and makes one token request for each client; it writes nothing.`,
		Example: "  credagent validate -c credagent.yaml --probe",
		Args:    noArguments,
	}
	file := configFlag(c)
	probe := c.Flags().Bool("probe", false, "also load each credential and make one token request for each client")
	readable := c.Flags().StringArray("readable", nil, "also check that this file can be read") // init's, as the service's user
	if err := c.Flags().MarkHidden("readable"); err != nil {
		panic(err) // the flag is there
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := checked(c.Context(), c, *file)
		if err != nil {
			return err
		}
		if problems := unreadable(*readable); len(problems) > 0 {
			return &config.Error{Problems: problems}
		}
		for _, warning := range slices.Concat(cfg.Warnings, agent.SharedClients(cfg), unrunnable(cfg)) {
			fmt.Fprintf(c.ErrOrStderr(), "credagent: warning: %s\n", warning)
		}
		if *probe {
			if err := probeConfig(c, cfg); err != nil {
				return err
			}
		}
		fmt.Fprintf(c.OutOrStdout(), "%s is valid: %s, %s, %s\n", cfg.Source,
			counted(len(cfg.Clients), "client"), counted(len(cfg.Tokens), "token"), counted(len(cfg.Sinks), "sink"))
		return nil
	}
	return c
}

// unreadable reports the files that the caller cannot read.
func unreadable(files []string) []config.Problem {
	var problems []config.Problem
	for _, path := range files {
		file, err := os.Open(path)
		if err == nil {
			_ = file.Close()
			continue
		}
		problem := config.Problem{File: path, Message: fmt.Sprintf("cannot be read: %v", causeOf(err))}
		switch {
		case errors.Is(err, fs.ErrPermission):
			problem.Hint = fmt.Sprintf("let the agent's user read it: chmod a+r %s, or for a key or secret chown; "+
				"open the directories above it (chmod a+x); or put it in another place, such as /etc/credagent", path)
		case errors.Is(err, fs.ErrNotExist):
			problem.Hint = "put the file there, or name another one"
		}
		problems = append(problems, problem)
	}
	return problems
}

// checked returns a valid configuration, or an error with all problems: in the text, in the providers' own keys, and
// with users and groups.
func checked(ctx context.Context, c *cobra.Command, file string) (*config.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cfg, problems, err := examined(file)
	if err != nil {
		return nil, err
	}
	if cfg != nil {
		problems = append(problems, unknownAccounts(cfg)...)
		found, err := wrongKeys(ctx, cfg, newLogger(cfg, c.ErrOrStderr()))
		if err != nil {
			return nil, err
		}
		for _, problem := range found {
			if !slices.ContainsFunc(problems, func(p config.Problem) bool { return p.Path == problem.Path }) {
				problems = append(problems, problem)
			}
		}
	}
	if len(problems) == 0 {
		return cfg, nil
	}
	slices.SortStableFunc(problems, func(a, b config.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return nil, &config.Error{Problems: problems}
}

// examined reads as much of a configuration as possible, with the problems so far.
func examined(file string) (*config.Config, []config.Problem, error) {
	path, fromEnv := config.Find(file, os.LookupEnv)
	if _, err := os.Stat(path); !fromEnv && err == nil {
		cfg, problems := config.Examine(path, os.LookupEnv)
		if len(problems) == 0 {
			problems = cfg.Inside(runtimeFiles())
		}
		return cfg, problems, nil
	}
	cfg, err := loadConfig(file)
	return cfg, nil, err
}

// wrongKeys has the providers check their own keys.
func wrongKeys(ctx context.Context, cfg *config.Config, log *slog.Logger) ([]config.Problem, error) {
	readable := *cfg
	readable.Tokens, readable.Sinks, readable.Variables = nil, nil, nil
	readable.Clients = nil
	for _, client := range cfg.Clients {
		if client.FallbackCredential != nil && client.FallbackCredential.Provider == "" {
			client.FallbackCredential = nil
		}
		if client.Credential.Provider != "" {
			readable.Clients = append(readable.Clients, client)
		}
	}
	for _, token := range cfg.Tokens {
		of := func(c config.Client) bool { return c.Name == token.Client }
		if token.Grant != config.GrantClientCredentials && slices.ContainsFunc(readable.Clients, of) {
			readable.Tokens = append(readable.Tokens, token) // its client's provider has a part in its requests
		}
	}
	a, _ := newAgent(&readable, log)
	defer a.Close()
	err := a.Check(ctx, false)
	if found := (*config.Error)(nil); errors.As(err, &found) {
		return found.Problems, nil
	}
	return nil, err
}

// unknownAccounts reports users and groups that do not exist on this host.
func unknownAccounts(cfg *config.Config) []config.Problem {
	var problems []config.Problem
	look := func(path, kind, name string, find func(string) (int, error)) {
		if name == "" {
			return
		}
		if _, err := find(name); err != nil {
			problems = append(problems, cfg.Problem(path, fmt.Sprintf("looking up %s %q: %v", kind, name, err)))
		}
	}
	both := func(path string, p config.Principal) {
		look(path, "user", p.User, host.User)
		look(path, "group", p.Group, host.Group)
	}
	if cfg.Socket != nil {
		look("socket.group", "group", cfg.Socket.Group, host.Group)
		for _, t := range cfg.Tokens {
			for i, p := range t.Allow {
				both(config.AllowPath(t.Name, i), p)
			}
		}
	}
	for _, s := range cfg.Sinks {
		look(s.Place+".owner", "user", s.Owner, host.User)
		look(s.Place+".group", "group", s.Group, host.Group)
		for i, p := range s.Readers {
			both(fmt.Sprintf("%s.readers[%d]", s.Place, i), p)
		}
	}
	return problems
}

// unrunnable reports on_change commands that would not run on this host. They may run where the agent runs.
func unrunnable(cfg *config.Config) []config.Problem {
	var problems []config.Problem
	for _, s := range cfg.Sinks {
		for i, action := range s.OnChange {
			if action.Command == nil {
				continue
			}
			if why, fix := process.Unrunnable(action.Command.Run); why != "" {
				problem := cfg.Problem(fmt.Sprintf("%s.on_change[%d].command.run", s.Place, i), why)
				problem.Hint = fix
				problems = append(problems, problem)
			}
		}
	}
	return problems
}

// probeConfig loads each credential and makes one token request for each client. It writes nothing, so it leaves no
// state that the service's user could not use.
func probeConfig(c *cobra.Command, cfg *config.Config) error {
	ctx, cancel := context.WithTimeout(c.Context(), probeTimeout)
	defer cancel()
	if advice := probeAs(cfg.Source); advice != "" {
		fmt.Fprintln(c.ErrOrStderr(), "credagent: note: probing as root, who may read what the service may not\n    hint: "+advice)
	}
	memory, err := rememberedOnly(cfg)
	if err != nil {
		return err
	}
	log := newLogger(cfg, c.ErrOrStderr())
	shared := openShared(cfg, true, log)
	defer shared.Close()
	a, _ := newAgentWith(memory, shared, cfg, log)
	defer a.Close()
	if err := a.Check(ctx, true); err != nil {
		return err
	}
	return a.Probe(ctx)
}

// readOnly is a memory that is never written.
type readOnly struct{ agent.Memory }

func (readOnly) Save(string, store.Record) error { return nil }
func (readOnly) Remove(string) error             { return nil }

// rememberedOnly opens existing state, for the waits in it; it creates none.
func rememberedOnly(cfg *config.Config) (agent.Memory, error) {
	if cfg.State == nil {
		return nil, nil
	}
	if _, err := os.Stat(cfg.State.Dir); cfg.State.Secret == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	memory, err := openMemory(cfg)
	if err != nil {
		return nil, err
	}
	return readOnly{memory}, nil
}

// probeAs returns the command to probe as the service's user, for root on a host that has that user.
func probeAs(source string) string {
	if os.Geteuid() != 0 {
		return ""
	}
	if _, err := user.Lookup(serviceUser); err != nil {
		return ""
	}
	return fmt.Sprintf("runuser -u %s -- credagent validate --probe -c %s", serviceUser, source)
}

// counted formats a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
