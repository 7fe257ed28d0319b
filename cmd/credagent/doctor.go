package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/doctor"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
)

// examineTimeout limits the whole examination.
const examineTimeout = 2 * time.Minute

// errUnwell means that doctor found a problem, which was printed.
var errUnwell = errors.New("doctor found problems")

func newDoctor() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check this host for problems",
		Long: `doctor checks the host and the configuration for problems, including ones that will only show later, and prints a fix for each:
directories, mounts and file systems of sinks, who can read them, credentials and their expiry, clocks,
state, addresses, providers and the kernel. It loads each credential and asks each server for the
time, but requests no token; next to each sink it writes a test file and removes it. Run it as
the agent's user. It exits with 78 if there is a problem, and with 0 if there are only warnings
and notes.`,
		Example: "  runuser -u credagent -- credagent doctor -c /etc/credagent/credagent.yaml",
		Args:    noArguments,
	}
	file := configFlag(c)
	asJSON := c.Flags().Bool("json", false, "print the findings as JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := loadConfig(*file)
		if err != nil {
			return err
		}
		cfg.Warnings = append(cfg.Warnings, agent.SharedClients(cfg)...)
		ctx, cancel := context.WithTimeout(c.Context(), examineTimeout)
		defer cancel()
		host := newHost(cfg, newLoggerAt(slog.LevelError, cfg, c.ErrOrStderr()))
		found := doctor.Examine(ctx, doctor.Options{
			Config:    cfg,
			Status:    func(ctx context.Context) (status.Status, error) { return askStatus(ctx, agentOf(cfg)) },
			Check:     checkWith(host),
			Providers: host.List,
		})
		if err := writeFindings(c.OutOrStdout(), cfg, found, *asJSON); err != nil {
			return err
		}
		if count(found, doctor.Problem) > 0 {
			return errUnwell
		}
		return nil
	}
	return c
}

func newHost(cfg *config.Config, log *slog.Logger) *provider.Host {
	return provider.New(provider.Options{
		Dirs: cfg.Plugins.Dirs, SHA256: cfg.Plugins.SHA256, IdleTimeout: cfg.Plugins.IdleTimeout, Builtin: builtinNames(), Log: log,
	})
}

// checkWith loads a credential in a separate process.
func checkWith(host *provider.Host) func(context.Context, string, config.Credential) (provider.Credential, []provider.Problem, error) {
	return func(ctx context.Context, client string, c config.Credential) (provider.Credential, []provider.Problem, error) {
		process := host.Process(provider.Spec{Client: client, Provider: c.Provider, Config: c.Config})
		defer process.Close()
		return process.Check(ctx, true)
	}
}

func count(found []doctor.Finding, level doctor.Level) int {
	n := 0
	for _, f := range found {
		if f.Level == level {
			n++
		}
	}
	return n
}

func several(found []doctor.Finding, level doctor.Level) string {
	n := count(found, level)
	if n == 1 {
		return "1 " + string(level)
	}
	return fmt.Sprintf("%d %ss", n, level)
}

func writeFindings(out io.Writer, cfg *config.Config, found []doctor.Finding, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(struct {
			Source   string           `json:"source"`
			Problems int              `json:"problems"`
			Findings []doctor.Finding `json:"findings"`
		}{cfg.Source, count(found, doctor.Problem), append([]doctor.Finding{}, found...)})
	}
	var text strings.Builder
	for _, f := range found {
		writeFinding(&text, f)
	}
	fmt.Fprintf(&text, "%s: %s, %s, %s\n", cfg.Source,
		several(found, doctor.Problem), several(found, doctor.Warning), several(found, doctor.Note))
	_, err := io.WriteString(out, text.String())
	return err
}

func writeFinding(out *strings.Builder, f doctor.Finding) {
	fmt.Fprintf(out, "%s: %s\n", f.Level, f.What)
	for _, line := range []struct{ label, text string }{
		{"of:", strings.Join(f.About, ", ")}, {"why:", f.Why}, {"fix:", f.Fix},
	} {
		if line.text != "" {
			fmt.Fprintf(out, "    %-5s %s\n", line.label, line.text)
		}
	}
	out.WriteString("\n")
}
