package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/agent/doctor"
	"github.com/credagent/credagent/internal/process"
	"github.com/credagent/credagent/internal/verifysink"
)

// errDoesNotHold means that verify-sink observed a broken promise, or too little; the details were printed.
var errDoesNotHold = errors.New("a sink was not seen to be safe there")

func newVerifySink() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify-sink PATH",
		Short: "Test whether readers on a file system always get a whole token",
		Long: `verify-sink keeps writing a file, as the agent writes a sink, while readers keep opening it, one of
them in a separate process. It reports whether any of them found it torn, empty, missing, or open to
more than its mode allows; how soon new content is visible; whether inotify reports it; whether the
modification time changes; and whether a write or fsync fails; with a verdict.

PATH is a directory, in which it creates a file, or a file that does not exist yet. It overwrites
nothing, and removes what it created, also after Ctrl-C, which ends it early. It writes no token.
Run it as the agent's user, and on each host that reads the file. It exits with 0 if the promise
holds, and with 78 if it does not, or if PATH is not usable for a sink.`,
		Example: "  runuser -u credagent -- credagent verify-sink /mnt/shared/tokens --for 30s",
	}
	length := c.Flags().Duration("for", 30*time.Second, fmt.Sprintf("how long, at least %v", verifysink.Shortest))
	reader := c.Flags().String("as-reader", "", "be the reader in a separate process")
	_ = c.Flags().MarkHidden("as-reader") // the flag is there
	c.RunE = func(c *cobra.Command, args []string) error {
		if *reader != "" {
			return verifysink.Read(c.Context(), *reader, c.OutOrStdout())
		}
		switch {
		case len(args) != 1:
			return &usageError{c.CommandPath(), fmt.Errorf("it takes one path, not %d", len(args))}
		case *length < verifysink.Shortest:
			return &usageError{c.CommandPath(), fmt.Errorf("invalid argument %q for --for: %v is the least in which there is something to be seen", *length, verifysink.Shortest)}
		}
		return verifySink(c, args[0], *length)
	}
	return c
}

func verifySink(c *cobra.Command, path string, length time.Duration) error {
	defer surviveBrokenPipe()()
	name, remote := doctor.FileSystem(path)
	fmt.Fprintf(c.ErrOrStderr(), "credagent: writing and reading at %s for %v; Ctrl-C ends it early\n", printable(path), length)
	report, err := verifysink.Run(c.Context(), verifysink.Options{
		Path: path, For: length, FileSystem: name, Remote: remote, Reader: readApart,
	})
	if report != nil {
		if _, err := fmt.Fprint(c.OutOrStdout(), report); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return &statedError{exitUsage, err}
	case err != nil:
		return &statedError{exitConfig, err}
	case !report.Holds():
		return &statedError{exitConfig, errDoesNotHold}
	}
	return nil
}

// readApart runs this program as a reader, until ctx ends.
func readApart(ctx context.Context, argument string) ([]byte, error) {
	self, err := process.Self()
	if err != nil {
		return nil, err
	}
	var output bytes.Buffer
	err = process.Run(ctx, process.Command{Path: self, Args: []string{"credagent", "verify-sink", "--as-reader", argument}}, &output)
	return output.Bytes(), err
}
