//go:build !linux

package provider

import (
	"errors"
	"os"
)

// sealed needs memory that can be sealed and executed, which only Linux has.
func sealed(string, string) (*os.File, error) {
	return nil, errors.New("plugins.sha256 is available on Linux only")
}

// pathOf is never reached: sealed returns no file here.
func pathOf(executable *os.File) string { return executable.Name() }
