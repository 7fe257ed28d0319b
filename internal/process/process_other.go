//go:build !linux

package process

import (
	"context"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// Self returns the running executable.
func Self() (string, error) { return os.Executable() }

// OwnGroup does nothing: process groups here are not Linux's.
func OwnGroup() *syscall.SysProcAttr { return nil }

// Bound does nothing: the system does not end a process with its parent.
func Bound() *syscall.SysProcAttr { return nil }

// HideMemory does nothing: the system cannot refuse a debugger for a single process.
func HideMemory() error { return nil }

// RunAs is [Run]: switching users is not supported here.
func RunAs(ctx context.Context, c Command, _, _ int, output io.Writer) error {
	return Run(ctx, c, output)
}

// KillGroup kills a process.
func KillGroup(p *os.Process) { _ = p.Kill() }

// endGroup kills a process: what it started is out of reach in any case.
func endGroup(p *os.Process) { _ = p.Kill() }

// AwaitExit does not wait: there is no group to end before the process is reaped.
func AwaitExit(*os.Process) bool { return false }

// await waits until a process has ended, and reaps it.
func await(cmd *exec.Cmd) (reap func() error) {
	err := Wait(cmd)
	return func() error { return err }
}

// withoutInherited runs start.
func withoutInherited(start func() error) error { return start() }

// withoutAmbient runs start.
func withoutAmbient(start func() error) error { return start() }

// Reap has nothing to do: orphans are left to the system.
func Reap(context.Context) {}
