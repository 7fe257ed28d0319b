//go:build unix

package supervise

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// passed returns the signals that are passed on to the command. Stop signals are not: stopping a job stops all of it.
func passed() []os.Signal {
	return append(realTime(), syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGALRM, syscall.SIGTERM,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT)
}

// terminal is the controlling terminal of this process.
type terminal struct {
	fd    int  // -1 if there is none
	alone bool // this process leads the terminal's session
}

func openTerminal() terminal {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return terminal{fd: -1}
	}
	leader, err := unix.Getsid(0)
	return terminal{fd: fd, alone: err == nil && leader == os.Getpid()}
}

// attributes give a command the terminal. If there is no shell to manage it, the command's own group takes the
// foreground, so only the command gets the terminal's signals.
func (t terminal) attributes() *syscall.SysProcAttr {
	if !t.alone {
		return nil
	}
	return &syscall.SysProcAttr{Foreground: true, Ctty: t.fd}
}

// reaches reports whether a command in this process's group gets a signal, as this process does, from the terminal or
// from the shell that manages the job.
func (t terminal) reaches(s os.Signal) bool {
	if t.fd < 0 || t.alone {
		return false
	}
	switch s {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH:
		foreground, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
		return err == nil && foreground == unix.Getpgrp()
	case syscall.SIGCONT:
		return true
	}
	return false
}
