package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func newOnce() *cobra.Command {
	c := &cobra.Command{
		Use:   "once",
		Short: "Acquire every token, write its sinks, exit",
		Long: `once is for an init container or a cron job. Temporary failures are retried, by the same rules
as in run, until the timeout; a refusal of the credential, of the configuration or by policy ends it
at once. Tokens that were acquired are written.`,
		Example: "  credagent once -c credagent.yaml --timeout 30s --token graph",
		Args:    noArguments,
	}
	file := configFlag(c)
	timeout := c.Flags().Duration("timeout", time.Minute, "how long to try")
	tokens := c.Flags().StringArray("token", nil, "only this token and the sinks that need no other; can be repeated")
	completeFlag(c, "token", tokenNames)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *timeout <= 0 {
			return &usageError{c.CommandPath(), fmt.Errorf("invalid argument %q for --timeout: want a duration such as 30s", *timeout)}
		}
		detachLog(c)
		defer endInTime(c.Context(), c.ErrOrStderr())()
		cfg, err := loadConfig(*file)
		if err != nil {
			return err
		}
		if cfg, err = cfg.Only(*tokens); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), *timeout)
		defer cancel()
		log := newLogger(cfg, c.ErrOrStderr())
		warn(cfg, log)
		memory, shared, err := openHost(cfg, log)
		if err != nil {
			return err
		}
		defer shared.Close()
		a, _ := newAgentWith(memory, shared, cfg, log)
		if err := a.Open(); err != nil {
			return err
		}
		if err := checkSoon(ctx, a, min(checkTimeout, *timeout/2)); err != nil {
			return err
		}
		return a.Once(ctx)
	}
	return c
}
