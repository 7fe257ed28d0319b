package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/internal/devserver"
)

// completer is cobra's completion function for an argument or a flag.
type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// words completes a closed set.
func words(all ...string) completer {
	return func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return slices.DeleteFunc(slices.Clone(all), func(w string) bool { return !strings.HasPrefix(w, begun) }), cobra.ShellCompDirectiveNoFileComp
	}
}

// tokenNames completes the names of the configuration's tokens.
func tokenNames(c *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	file, _ := c.Flags().GetString("config") // "" if there is none
	cfg, err := loadConfig(file)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, t := range cfg.Tokens {
		if strings.HasPrefix(t.Name, begun) {
			names = append(names, t.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// oneTokenName completes a command's only argument.
func oneTokenName(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return tokenNames(c, args, begun)
}

// completeFlag completes the values of a flag.
func completeFlag(c *cobra.Command, flag string, by completer) {
	if err := c.RegisterFlagCompletionFunc(flag, by); err != nil {
		panic(err) // the flag does not exist, or is completed twice: a bug
	}
}

// signalNames are the usual values of --on-refresh and --kill-signal.
func signalNames() []string {
	return []string{"HUP", "USR1", "USR2", "TERM", "INT", "QUIT", "WINCH"}
}

func mannerNames() []string {
	var names []string
	for _, m := range devserver.Manners() {
		names = append(names, m.Name)
	}
	return names
}

// kindNames returns the faults without their arguments.
func kindNames() []string {
	var names []string
	for _, f := range devserver.Faults() {
		names = append(names, f.Name)
	}
	return names
}

func faultNames() []string {
	var names []string
	for _, f := range devserver.Faults() {
		name := f.Name
		if f.Arg != "" {
			name += "="
		}
		names = append(names, name)
	}
	return names
}
