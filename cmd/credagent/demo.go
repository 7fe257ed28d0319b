package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/credagent/credagent/internal/demo"
)

func newDemo() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job against its own authorization server",
		Long: `demo needs no setup and leaves nothing behind. It starts an authorization server on loopback
whose tokens live for seconds, creates a certificate, and runs the agent: tokens are refreshed and
files rewritten while a workload keeps reading one of them, the server throttles and fails, and the
certificate is rotated. At the end it reports what it has observed, and it exits with 70 if anything
was missing. Ctrl-C stops it early.

On a terminal it draws; elsewhere, and with TERM=dumb, it prints a line per event. NO_COLOR is
respected.`,
		Example: "  credagent demo --for 30s",
		Args:    noArguments,
	}
	length := c.Flags().Duration("for", time.Minute, fmt.Sprintf("how long, at least %v", demo.Shortest))
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *length < demo.Shortest {
			return &usageError{c.CommandPath(), fmt.Errorf("invalid argument %q for --for: %v is the least that there is time for everything in", *length, demo.Shortest)}
		}
		defer surviveBrokenPipe()()
		return demo.Run(c.Context(), demo.Options{
			For:     *length,
			Version: version(),
			Builtin: builtinNames(),
			Out:     c.OutOrStdout(),
			Screen:  screenOf(c.OutOrStdout(), os.LookupEnv),
		})
	}
	return c
}

// screenOf returns the terminal behind out, or nil if there is none to draw on.
func screenOf(out io.Writer, lookup func(string) (string, bool)) *demo.Screen {
	file, ok := out.(*os.File)
	kind, known := lookup("TERM")
	if !ok || !known || kind == "dumb" || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	noColor, _ := lookup("NO_COLOR")
	return &demo.Screen{Color: noColor == "", Size: func() (width, height int) {
		width, height, err := term.GetSize(int(file.Fd()))
		if err != nil || width <= 0 || height <= 0 { // a serial line has no size
			return 80, 24
		}
		return width, height
	}}
}
