//go:build !linux

package provider

import (
	"errors"
	"os"
	"syscall"
)

// self is the running executable.
func self() (string, error) { return os.Executable() }

// detached asks for nothing where process groups are not Linux's.
func detached() *syscall.SysProcAttr { return nil }

// killGroup kills a process.
func killGroup(p *os.Process) { _ = p.Kill() }

// awaitExit does not wait: there is no group to end before the process is reaped.
func awaitExit(*os.Process) bool { return false }

// withoutInherited runs start.
func withoutInherited(start func() error) error { return start() }

// sealed needs memory that can be sealed and run, which is Linux's own.
func sealed(string, string) (*os.File, error) {
	return nil, errors.New("plugins.sha256 is available on Linux only")
}

// pathOf is never reached: sealed returns no file here.
func pathOf(executable *os.File) string { return executable.Name() }
