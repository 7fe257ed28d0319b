package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// watchTime is between two looks of --watch.
const watchTime = time.Second

func newStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what the running agent is doing",
		Long: `status asks the running agent, over the socket of the configuration or else at its listen address,
for each token's life, next request and last outcome, each client's gate and credentials, each sink's
state, and what went wrong. A life is drawn from the token's issue to its expiry, with > (on a
terminal ●) for now and | for the next request.`,
		Example: "  credagent status --watch",
		Args:    noArguments,
	}
	agent := addAgentFlags(c)
	asJSON := c.Flags().Bool("json", false, "print the answer as JSON")
	watch := c.Flags().Bool("watch", false, "show it again every second")
	c.RunE = func(c *cobra.Command, _ []string) error {
		at, err := agent.find()
		if err != nil {
			return err
		}
		d := &display{out: c.OutOrStdout(), screen: screenOf(c.OutOrStdout(), os.LookupEnv), watch: *watch}
		for {
			if err := showStatus(c.Context(), d, at, *asJSON); err != nil || !*watch {
				return err
			}
			select {
			case <-c.Context().Done():
				return nil
			case <-time.After(watchTime):
			}
		}
	}
	return c
}

func showStatus(ctx context.Context, d *display, at agentAt, asJSON bool) error {
	s, err := askStatus(ctx, at)
	if err != nil {
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(d.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(s)
	}
	return d.show(s)
}
