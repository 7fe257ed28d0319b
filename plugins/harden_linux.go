package plugins

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/internal/handshake"
)

// harden keeps other processes of the same user, and core dumps, from reading this one's memory.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("refusing ptrace: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	// What the provider itself may start must not hold the agent's pipe.
	unix.CloseOnExec(handshake.LifelineFD)
	return nil
}

// endByOneself takes over from the kernel, which kills a provider when the agent ends: this process
// notices that by its pipe, and then takes along its socket and what it has started. The kernel keeps
// the order to kill with the first thread, so it is taken back there, which is where main runs.
func endByOneself() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Gettid() == unix.Getpid() {
		_ = unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
		return
	}
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0, 0) // not with cgo: then the kernel does it
}

// endGroup ends what the provider has started and left running, and this process with it. The agent
// starts a provider as the leader of a group; without that, the group is somebody else's.
func endGroup() {
	if unix.Getpgrp() == unix.Getpid() {
		_ = unix.Kill(0, unix.SIGKILL)
	}
}
