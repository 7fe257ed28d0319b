package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/config"
)

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "Print a shell's completion script",
		Example:   "  credagent completion bash > /etc/bash_completion.d/credagent",
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args: func(c *cobra.Command, args []string) error {
			if err := oneShell(args, c.ValidArgs); err != nil {
				return &usageError{c.CommandPath(), err}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return complete(c.Root(), args[0], c.OutOrStdout())
		},
	}
}

func oneShell(args, shells []string) error {
	known := strings.Join(shells, ", ")
	switch {
	case len(args) == 0:
		return fmt.Errorf("the shell is missing: give one of %s", known)
	case len(args) > 1:
		return fmt.Errorf("unexpected argument %q: give one shell", printable(args[1]))
	case !slices.Contains(shells, args[0]):
		return config.Suggest(fmt.Errorf("unknown shell %q: give one of %s", printable(args[0]), known), args[0], shells)
	}
	return nil
}

func complete(root *cobra.Command, shell string, out io.Writer) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(out, true)
	case "zsh":
		return root.GenZshCompletion(out)
	case "fish":
		return root.GenFishCompletion(out, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(out)
	}
	return fmt.Errorf("completing for shell %q: it is not known", shell)
}
