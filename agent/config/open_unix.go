//go:build unix

package config

import "syscall"

// nonblocking keeps an open from waiting for a pipe's other end.
const nonblocking = syscall.O_NONBLOCK
