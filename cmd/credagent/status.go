package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// watchTime is the interval of --watch.
const watchTime = time.Second

func newStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what the running agent is doing",
		Long: `status asks the running agent, over the configured socket or else at its listen address.
It shows first what needs a person, with its cause and the next step, then what waits, and then each
token's lifetime and next request, each client's gate and credentials and each sink's state. A lifetime
is drawn from the token's issue to its expiry, with > (on a terminal ●) for now and | for the next
request. With --watch it fits the window: what is well is omitted first. q quits.`,
		Example: "  credagent status --watch",
		Args:    noArguments,
	}
	agent := addAgentFlags(c)
	asJSON := c.Flags().Bool("json", false, "print the answer as JSON")
	watch := c.Flags().Bool("watch", false, "show it again every second; q quits")
	c.RunE = func(c *cobra.Command, _ []string) error {
		at, err := agent.find()
		if err != nil {
			return err
		}
		d := &display{out: c.OutOrStdout(), screen: screenOf(c.OutOrStdout(), os.LookupEnv), watch: *watch}
		if !*watch {
			return showStatus(c.Context(), d, at, *asJSON)
		}
		return watchStatus(c, d, func() error { return showStatus(c.Context(), d, at, *asJSON) })
	}
	return c
}

// watchStatus shows the status repeatedly, until a signal or, on a terminal, a key ends it.
func watchStatus(c *cobra.Command, d *display, show func() error) error {
	var quit <-chan struct{}
	if d.screen != nil {
		keys, restore, err := quitKeys(c.InOrStdin())
		if err != nil {
			return err
		}
		defer restore()
		quit, d.raw = keys, keys != nil
	}
	for {
		if err := show(); err != nil {
			return err
		}
		select {
		case <-c.Context().Done():
			return nil
		case <-quit:
			return nil
		case <-time.After(watchTime):
		}
	}
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
