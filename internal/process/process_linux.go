package process

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Self is the running executable even after an upgrade replaced its file, so that the agent and
// what it starts of itself are always of one version.
func Self() (string, error) { return "/proc/self/exe", nil }

// OwnGroup makes a process lead a group of its own: the terminal's signals do not reach it, and
// it can be ended with all that it started.
func OwnGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// RunAs is [Run] as another user, with no group but the one given; it needs the privilege.
func RunAs(ctx context.Context, c Command, uid, gid int, output io.Writer) error {
	attributes := OwnGroup()
	attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return run(ctx, c, attributes, output)
}

// KillGroup kills a process and what it started.
func KillGroup(p *os.Process) {
	_ = unix.Kill(-p.Pid, unix.SIGKILL)
	_ = p.Kill()
}

// endGroup asks a process and what it started to end.
func endGroup(p *os.Process) { _ = unix.Kill(-p.Pid, unix.SIGTERM) }

// AwaitExit waits until a process has ended, leaves it to be reaped, and reports whether it could.
// Until it is reaped, its number is nobody else's.
func AwaitExit(p *os.Process) bool {
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// await waits until a process has ended and returns what reaps it.
func await(cmd *exec.Cmd) (reap func() error) {
	AwaitExit(cmd.Process)
	return func() error { return Wait(cmd) }
}

// withoutInherited runs start while no descriptor that this process inherited itself, such as a
// socket of systemd's or a file of a shell's redirection, can pass on to what start starts. They
// are marked only meanwhile, because an heir does get them.
func withoutInherited(start func() error) error {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 2 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		unix.CloseOnExec(fd)
		defer unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags)
	}
	return start()
}
