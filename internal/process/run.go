package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

const (
	// grace is how long a program has to end after it was asked to, before it is killed.
	grace = time.Second
	// drain is how long the output is still read after a program ended, if a process that it left running holds it
	// open.
	drain = time.Second
)

// Run runs a program to its end, with an empty standard input, and passes its output on. If ctx ends first, the
// program and its group are asked to end and, a second later, killed; the error is then ctx's cause. Processes that a
// program leaves running when it ends on its own are not ended.
func Run(ctx context.Context, c Command, output io.Writer) error {
	return run(ctx, c, OwnGroup(), output)
}

// RunBound is [Run] for a program that must not outlive this process, however that ends: the kernel kills it
// then, though not what it started.
func RunBound(ctx context.Context, c Command, output io.Writer) error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the kernel goes by the thread that started it
		defer runtime.UnlockOSThread()
		ended <- run(ctx, c, Bound(), output)
	}()
	return <-ended
}

func run(ctx context.Context, c Command, attributes *syscall.SysProcAttr, output io.Writer) error {
	cmd := &exec.Cmd{
		Path: c.Path, Args: c.Args, Env: c.Env, Dir: c.Dir, SysProcAttr: attributes,
		Stdout: output, Stderr: output, WaitDelay: drain,
	}
	if c.Errors != nil {
		cmd.Stderr = c.Errors
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := Start(cmd); err != nil {
		return &StartError{Program: c.Args[0], Err: cause(err)}
	}
	ended := make(chan func() error, 1)
	go func() { ended <- await(cmd) }()
	select {
	case reap := <-ended:
		return howItEnded(reap())
	case <-ctx.Done():
	}
	endGroup(cmd.Process)
	var reap func() error
	select {
	case reap = <-ended:
	case <-time.After(grace):
	}
	KillGroup(cmd.Process) // its id cannot be reused: it has not been reaped
	if reap == nil {
		reap = <-ended
	}
	_ = reap()
	return context.Cause(ctx)
}

// howItEnded describes how a program failed.
func howItEnded(err error) error {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay): // it succeeded, and what it left running may continue to print
		return nil
	case !errors.As(err, &exit):
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Errorf("a signal ended it: %v", status.Signal())
	}
	return fmt.Errorf("it exited with status %d", exit.ExitCode())
}
