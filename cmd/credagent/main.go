// Command credagent gets OAuth 2.0 access tokens for a workload, keeps them fresh and writes them
// to files that the workload reads. Results go to standard output, logs and errors to standard
// error; the exit statuses are listed in exit.go.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/credagent/credagent/internal/supervise"
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/certcred"
	"github.com/credagent/credagent/plugins/jwtcred"
	"github.com/credagent/credagent/plugins/secretcred"
)

// builtin are the providers that this executable serves itself, started again as its own child.
func builtin() map[string]plugins.Provider {
	return map[string]plugins.Provider{
		certcred.Name:   certcred.Provider{},
		jwtcred.Name:    jwtcred.Provider{},
		secretcred.Name: secretcred.Provider{},
	}
}

// main keeps the process's first thread free of all work. Linux gives a signal to that thread before
// others, and one that waits for a file system that hangs would keep the signal from them.
func main() {
	runtime.LockOSThread()
	status := make(chan int)
	go func() { status <- mainCode(os.Args[1:], os.Stdout, os.Stderr) }()
	os.Exit(<-status)
}

func mainCode(args []string, stdout, stderr io.Writer) int {
	if len(args) == 2 && args[0] == "provider" {
		if p, known := builtin()[args[1]]; known {
			plugins.Serve(p)
			return exitOK
		}
	}
	if len(args) > 2 && args[0] == supervise.Launcher {
		return report(stderr, supervise.Become(args[1:], os.Environ()))
	}
	ctx, stop := signal.NotifyContext(context.Background(), stopSignals()...)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(stderr, root.ExecuteContext(ctx))
}

// stopSignals end what runs. A shell has a job in the background ignore SIGINT, so that a key ends only
// what is in the foreground.
func stopSignals() []os.Signal {
	if signal.Ignored(syscall.SIGINT) {
		return []os.Signal{syscall.SIGTERM}
	}
	return []os.Signal{syscall.SIGINT, syscall.SIGTERM}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "credagent",
		Short: "Keeps OAuth 2.0 access tokens fresh in files that workloads read",
		Long: `credagent gets OAuth 2.0 access tokens with the client-credentials grant, keeps them
fresh, and writes them atomically to files and env files that a workload reads.

Try it:  credagent demo`,
		Example:           "  credagent run -c /etc/credagent/credagent.yaml",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              noArguments,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &usageError{c.CommandPath(), err} })
	root.AddCommand(
		newInit(), newRun(), newOnce(), newExec(), newValidate(), newStatus(), newPlugins(), newKeygen(), newDoctor(),
		newToken(), newRefresh(), newChallenge(), newReady(),
		newDemo(), newDevserver(), newSchema(), newVersion(), newCompletion(),
	)
	root.SetHelpCommand(&cobra.Command{Hidden: true})
	return root
}

// noArguments refuses arguments, as a mistake in the usage.
func noArguments(c *cobra.Command, args []string) error {
	if err := cobra.NoArgs(c, args); err != nil {
		return &usageError{c.CommandPath(), err}
	}
	return nil
}
