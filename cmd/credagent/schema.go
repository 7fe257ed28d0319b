package main

import (
	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/config"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the configuration's JSON Schema",
		Example: "  credagent schema > credagent.schema.json",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}
