package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
)

func newPlugins() *cobra.Command {
	c := &cobra.Command{
		Use:     "plugins",
		Short:   "List the credential providers",
		Long:    "plugins lists the credential providers found, with version, path and pin.",
		Example: "  credagent plugins -c credagent.yaml",
		Args:    noArguments,
	}
	file := configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		settings, err := pluginSettings(*file)
		if err != nil {
			return err
		}
		host := provider.New(provider.Options{
			Dirs:        settings.Dirs,
			SHA256:      settings.SHA256,
			IdleTimeout: settings.IdleTimeout,
			Builtin:     builtinNames(),
			Log:         slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)),
		})
		table := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tVERSION\tPINNED\tPATH\tPROBLEM")
		for _, p := range host.List(c.Context()) {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", p.Name, dash(p.Version), pinned(p), dash(p.Path), dash(p.Error))
		}
		return table.Flush()
	}
	return c
}

// pluginSettings returns the settings of the configuration; without one, the defaults.
func pluginSettings(file string) (config.Plugins, error) {
	path, fromEnv := config.Find(file, os.LookupEnv)
	if _, err := os.Stat(path); !fromEnv && file == "" && errors.Is(err, os.ErrNotExist) {
		return config.DefaultPlugins(), nil
	}
	cfg, err := loadConfig(file)
	if err != nil {
		return config.Plugins{}, err
	}
	return cfg.Plugins, nil
}

func pinned(p provider.Info) string {
	switch {
	case p.Pinned:
		return "yes"
	case p.Builtin:
		return "built in"
	}
	return "no"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
