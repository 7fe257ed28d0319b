//go:build !linux

package main

import (
	"os"

	"golang.org/x/term"
)

// hideInput does nothing: readHidden does it here.
func hideInput(int) error { return nil }

// readHidden reads a line from the terminal without its echo.
func readHidden(terminal *os.File) ([]byte, error) { return term.ReadPassword(int(terminal.Fd())) }
