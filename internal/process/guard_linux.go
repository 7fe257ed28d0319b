package process

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// GuardArgument, alone, has this executable be a guard: main is to call [BeGuard] then.
const GuardArgument = "provider-guard"

// Guard sees to it that a group of processes does not outlive this process, however that ends: the kernel
// kills only the leader then, not what that has started. It is a process of the same group, which therefore
// keeps its number, and it waits at a pipe for the end. It ends with the group.
type Guard struct {
	cmd  *exec.Cmd
	pipe *os.File // this process's end
}

// StartGuard starts a guard for the group that leader leads. The leader is not to be reaped meanwhile.
func StartGuard(leader *os.Process) (*Guard, error) {
	self, err := Self()
	if err != nil {
		return nil, err
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a guard's pipe: %w", err)
	}
	defer theirs.Close()
	cmd := &exec.Cmd{
		Path: self, Args: []string{"credagent", GuardArgument}, Dir: "/", Env: []string{"GOMAXPROCS=1"}, Stdin: theirs,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pgid: leader.Pid},
	}
	if err := Start(cmd); err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("starting a guard: %w", cause(err))
	}
	return &Guard{cmd, ours}, nil
}

// End has the guard kill what is left of its group, and waits until it has ended.
func (g *Guard) End() {
	_ = g.pipe.Close()
	_ = Wait(g.cmd)
}

// BeGuard kills this process's group, and so this process, when the pipe ends.
func BeGuard(pipe io.Reader) {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	_, _ = io.Copy(io.Discard, pipe)
	if unix.Getpgrp() != unix.Getpid() { // else nobody has given it a group to guard
		_ = unix.Kill(0, unix.SIGKILL)
	}
}
