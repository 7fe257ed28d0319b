//go:build !linux

package process

import (
	"io"
	"os"
)

// GuardArgument, alone, has this executable be a guard: main is to call [BeGuard] then.
const GuardArgument = "provider-guard"

// Guard is nothing where process groups are not Linux's.
type Guard struct{}

// StartGuard starts nothing.
func StartGuard(*os.Process) (*Guard, error) { return &Guard{}, nil }

// End has nothing to wait for.
func (*Guard) End() {}

// BeGuard has nothing to kill.
func BeGuard(io.Reader) {}
