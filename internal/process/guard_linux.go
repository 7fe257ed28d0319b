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

// GuardArgument, as the only argument, makes this executable a guard: main then calls [BeGuard].
const GuardArgument = "provider-guard"

// Guard makes sure that a process group does not outlive this process, however it ends: the kernel then kills only
// the leader, not what the leader has started. It is a process in the same group, whose id is therefore not reused,
// and it waits for the end of a pipe. It ends with the group.
type Guard struct {
	cmd  *exec.Cmd
	pipe *os.File // this process's end
}

// StartGuard starts a guard for the group of leader. The leader must not be reaped meanwhile.
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

// End makes the guard kill the rest of its group, and waits until it has ended.
func (g *Guard) End() {
	_ = g.pipe.Close()
	_ = Wait(g.cmd)
}

// BeGuard kills this process's group, and so this process, when the pipe ends.
func BeGuard(pipe io.Reader) {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	_, _ = io.Copy(io.Discard, pipe)
	if unix.Getpgrp() != unix.Getpid() { // otherwise it is not in a group to guard
		_ = unix.Kill(0, unix.SIGKILL)
	}
}
