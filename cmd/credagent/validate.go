package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/config"
)

// probeTimeout bounds the whole of a probe.
const probeTimeout = 2 * time.Minute

func newValidate() *cobra.Command {
	c := &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration",
		Long: `validate checks the configuration, each provider's own keys included, without touching the
network or reading a credential, and reports every problem at once. With --probe it also loads
each credential and makes one token request for each client; it writes nothing.`,
		Example: "  credagent validate -c credagent.yaml --probe",
		Args:    noArguments,
	}
	file := configFlag(c)
	probe := c.Flags().Bool("probe", false, "also load each credential and make one token request for each client")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := loadConfig(*file)
		if err != nil {
			return err
		}
		for _, warning := range cfg.Warnings {
			fmt.Fprintf(c.ErrOrStderr(), "credagent: warning: %s\n", warning)
		}
		if err := validate(c.Context(), c, cfg, *probe); err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "%s is valid: %d clients, %d tokens, %d sinks\n", cfg.Source, len(cfg.Clients), len(cfg.Tokens), len(cfg.Sinks))
		return nil
	}
	return c
}

func validate(ctx context.Context, c *cobra.Command, cfg *config.Config, probe bool) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	log := newLogger(cfg, c.ErrOrStderr())
	if !probe {
		a, _ := newAgent(cfg, log)
		defer a.Close()
		return a.Check(ctx, false)
	}
	a, _, err := newRememberingAgent(cfg, log)
	if err != nil {
		return err
	}
	defer a.Close()
	if err := a.Check(ctx, true); err != nil {
		return err
	}
	return a.Probe(ctx)
}
