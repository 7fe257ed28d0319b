//go:build !linux

package process

import (
	"io"
	"os"
)

// GuardArgument, as the only argument, makes this executable a guard: main then calls [BeGuard].
const GuardArgument = "provider-guard"

// Guard does nothing: process groups here are not Linux's.
type Guard struct{}

// StartGuard starts nothing.
func StartGuard(*os.Process) (*Guard, error) { return &Guard{}, nil }

// End has nothing to wait for.
func (*Guard) End() {}

// BeGuard has nothing to kill.
func BeGuard(io.Reader) {}
