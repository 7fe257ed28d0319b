//go:build unix

package process

import (
	"os"
	"syscall"
)

// systemSignals are those that not every system has.
var systemSignals = map[string]os.Signal{
	"CONT": syscall.SIGCONT, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "WINCH": syscall.SIGWINCH,
}
