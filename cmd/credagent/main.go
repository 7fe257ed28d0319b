// Command credagent gets OAuth 2.0 access tokens for a workload, keeps them fresh and writes them
// to files that the workload reads. Results go to standard output, logs and errors to standard
// error; the exit statuses are listed in exit.go.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/credagent/credagent/internal/process"
	"github.com/credagent/credagent/internal/supervise"
	"github.com/credagent/credagent/plugins"
	"github.com/credagent/credagent/plugins/certcred"
	"github.com/credagent/credagent/plugins/jwtcred"
	"github.com/credagent/credagent/plugins/secretcred"
)

// builtin returns the providers that this executable serves itself, as its own child process.
func builtin() map[string]plugins.Provider {
	return map[string]plugins.Provider{
		certcred.Name:   certcred.Provider{},
		jwtcred.Name:    jwtcred.Provider{},
		secretcred.Name: secretcred.Provider{},
	}
}

// main keeps the process's first thread free of work. Linux delivers a signal to that thread first, and if it waited
// for a hanging file system, the signal would not be handled.
func main() {
	runtime.LockOSThread()
	if len(os.Args) == 3 && os.Args[1] == "provider" {
		os.Exit(mainCode(os.Args[1:], os.Stdout, os.Stderr)) // [plugins.Serve] must be called here
	}
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
	if len(args) > 3 && args[0] == supervise.Launcher {
		return report(stderr, supervise.Become(args[1:], os.Environ()))
	}
	if len(args) == 1 && args[0] == process.GuardArgument {
		process.BeGuard(os.Stdin)
		return exitOK
	}
	if err := process.HideMemory(); err != nil {
		fmt.Fprintln(stderr, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), stopSignals()...)
	defer stop()
	errors := &errorOutput{to: stderr}
	defer errors.finish()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(errors)
	return report(errors, root.ExecuteContext(ctx))
}

// stopSignals returns the signals that end the process. A shell makes background jobs ignore SIGINT and SIGQUIT, so
// that a key ends only the foreground job.
func stopSignals() []os.Signal {
	if signal.Ignored(syscall.SIGINT) {
		// Go's runtime does not keep SIGQUIT ignored, and would end the process with a stack dump.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGQUIT)
		return []os.Signal{syscall.SIGTERM}
	}
	return []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM}
}
