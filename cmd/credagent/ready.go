package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/status"
)

func newReady() *cobra.Command {
	c := &cobra.Command{
		Use:   "ready",
		Short: "Report by exit status whether every token is valid and written",
		Long: `ready asks the running agent, over the configured socket or else at its listen address,
whether it is ready and every token lives long enough. The exit status is 0 if so, else 75,
with the reasons: for probes and scripts.`,
		Example: "  credagent ready --min-ttl 10m && deploy",
		Args:    noArguments,
	}
	agent := addAgentFlags(c)
	least := c.Flags().Duration("min-ttl", 0, "the least remaining lifetime of every token")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *least < 0 {
			return &usageError{c.CommandPath(), fmt.Errorf("invalid argument %q for --min-ttl: want a duration such as 5m", *least)}
		}
		at, err := agent.find()
		if err != nil {
			return err
		}
		s, err := askStatus(c.Context(), at)
		if err != nil {
			return err
		}
		if reasons := notReady(s, *least); len(reasons) > 0 {
			return &statedError{exitNoToken, errors.New(strings.Join(reasons, "\n"))}
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), summary(s.Brief()))
		return err
	}
	return c
}

// notReady explains why the agent is not ready, one line for each reason.
func notReady(s status.Status, least time.Duration) []string {
	reasons := s.NotReady
	for _, t := range s.Tokens {
		if !t.Valid && s.Ready {
			reasons = append(reasons, fmt.Sprintf("token %q is not valid", t.Name))
		}
		if t.Valid && t.Expiry != nil && t.Expiry.Sub(s.Now) < least {
			reasons = append(reasons, fmt.Sprintf("token %q expires in %s, which is less than %v", t.Name, until(s.Now, t.Expiry), least))
		}
	}
	return reasons
}
