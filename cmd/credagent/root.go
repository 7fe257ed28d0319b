package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/credagent/credagent/agent/config"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "credagent",
		Short: "Keeps OAuth 2.0 access tokens fresh in files that workloads read",
		Long: `credagent gets OAuth 2.0 access tokens with the client-credentials grant, keeps them
fresh, and writes them atomically to files and env files that a workload reads.

Try it:  credagent demo`,
		Example:           "  credagent run -c /etc/credagent/credagent.yaml",
		Version:           versionLine(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              knownCommand,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(wrongFlag)
	root.AddCommand(
		newInit(), newRun(), newOnce(), newExec(), newValidate(), newStatus(), newPlugins(), newKeygen(), newDoctor(),
		newToken(), newRefresh(), newChallenge(), newReady(),
		newDemo(), newDevserver(), newVerifySink(), newSchema(), newVersion(), newCompletion(),
	)
	root.SetHelpCommand(newHelp())
	group(root)
	return root
}

// group sorts the commands into groups, the everyday ones first.
func group(root *cobra.Command) {
	for _, g := range []struct {
		id, title string
		commands  []string
	}{
		{"everyday", "Everyday commands:", []string{"init", "run", "status", "token", "validate", "doctor"}},
		{"running", "Other ways to run, and to ask the running agent:", []string{"once", "exec", "ready", "refresh", "challenge"}},
		{"trying", "To try things out:", []string{"demo", "devserver", "verify-sink"}},
		{"more", "More:", nil},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range root.Commands() {
			if c.GroupID == "" && (g.commands == nil || slices.Contains(g.commands, c.Name())) {
				c.GroupID = g.id
			}
		}
	}
	root.SetHelpCommandGroupID("more")
}

// wrongFlag returns a usage error for a flag, with the one that was probably meant.
func wrongFlag(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if meant := config.Nearest(unknown.GetSpecifiedName(), names); meant != "" {
			err = fmt.Errorf("%w\n    hint: did you mean --%s?", err, meant)
		}
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		err = wrongValue(invalid)
	}
	return &usageError{c.CommandPath(), err}
}

// wrongValue describes in plain words which value a flag expects.
func wrongValue(e *pflag.InvalidValueError) error {
	value, name := printable(e.GetValue()), e.GetFlag().Name
	want := map[string]string{
		"duration": "want a duration such as 90s or 5m",
		"bool":     "want true or false",
		"int":      "want a whole number",
		"uint":     "want a whole number",
	}[e.GetFlag().Value.Type()]
	if want == "" {
		return e
	}
	if _, notNumber := strconv.ParseFloat(value, 64); notNumber == nil && e.GetFlag().Value.Type() == "duration" {
		want = fmt.Sprintf("its unit is missing: want a duration such as %ss or %sm", value, value)
	}
	return fmt.Errorf("invalid argument %q for --%s: %s", value, name, want)
}

// newHelp is cobra's help command, except that an unknown command is a usage error.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Help about any command",
		GroupID: "more",
		ValidArgsFunction: func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return words(commandNames(c.Root())...)(c, args, begun)
		},
		RunE: func(c *cobra.Command, args []string) error {
			found, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return knownCommand(c.Root(), append(rest, args...))
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// commandNames returns the visible commands.
func commandNames(c *cobra.Command) []string {
	var names []string
	for _, known := range c.Commands() {
		if !known.Hidden {
			names = append(names, known.Name())
		}
	}
	return names
}

// knownCommand refuses an unknown command, with the one that was probably meant.
func knownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q", printable(args[0]))
	return &usageError{c.CommandPath(), config.Suggest(err, args[0], commandNames(c))}
}

// noArguments refuses arguments as a usage error. A configuration needs its flag.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unexpected argument %q", printable(args[0]))
	if c.Flags().Lookup("config") != nil && isFile(args[0]) {
		err = fmt.Errorf("%w\n    hint: name the configuration with -c: %s -c %s", err, c.CommandPath(), printable(args[0]))
	}
	return &usageError{c.CommandPath(), err}
}

// isFile reports whether an argument is probably the name of a configuration.
func isFile(argument string) bool {
	info, err := os.Stat(argument)
	return err == nil && !info.IsDir() || slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(argument))
}
