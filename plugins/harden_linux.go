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
	// A process that the provider starts must not inherit the agent's pipe.
	unix.CloseOnExec(handshake.LifelineFD)
	return nil
}

// endByOneself cancels the kernel's order to kill this process when the agent ends: the process notices that by its
// pipe, and then also removes its socket and ends what it has started. The order belongs to the first thread, so it
// is cancelled there, where main runs.
func endByOneself() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Gettid() == unix.Getpid() {
		_ = unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
		return
	}
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0, 0) // fails with cgo: then the kernel kills
}

// endGroup ends the processes that the provider has left running, and this process with them. The agent starts a
// provider as the leader of a group; if it is not the leader, the group is not its own.
func endGroup() {
	if unix.Getpgrp() == unix.Getpid() {
		_ = unix.Kill(0, unix.SIGKILL)
	}
}
