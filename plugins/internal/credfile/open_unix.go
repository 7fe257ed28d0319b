//go:build unix

package credfile

import "syscall"

// openFlags keep an open from waiting for a pipe's other end, and from making a terminal this process's.
const openFlags = syscall.O_NONBLOCK | syscall.O_NOCTTY
