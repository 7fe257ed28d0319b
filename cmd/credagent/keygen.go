package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/store"
)

func newKeygen() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen",
		Short: "Print a new state key",
		Long: `keygen prints a new key for the encrypted state (state.key_file), in the form of age-keygen. Keep it
where only the agent's user can read it, outside the state's directory. Losing it costs one
token request for each token.`,
		Example: "  (umask 077; credagent keygen > /etc/credagent/state-key)",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			key, err := store.NewKey(time.Now())
			if err != nil {
				return err
			}
			if readByOthers(c.OutOrStdout()) {
				fmt.Fprintln(c.ErrOrStderr(), "credagent: warning: others can read the file that the key is written to\n    hint: remove it and run: (umask 077; credagent keygen > FILE)")
			}
			_, err = io.WriteString(c.OutOrStdout(), key.Reveal())
			return err
		},
	}
}

// readByOthers reports whether the output is a file that everybody can read.
func readByOthers(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0
}
