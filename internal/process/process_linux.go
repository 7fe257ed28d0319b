package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Self returns the running executable, even after an upgrade replaced its file, so that the agent and the copies that
// it starts always have the same version.
func Self() (string, error) { return "/proc/self/exe", nil }

// OwnGroup makes a process lead its own group: the terminal's signals do not reach it, and it can be ended together
// with everything it has started.
func OwnGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// Bound is [OwnGroup] for a process that must not outlive this one in any case: the kernel kills it. The kernel
// watches the thread that starts it, so call [Start] and [Wait] from a goroutine that is locked to its thread.
func Bound() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
}

// HideMemory keeps other processes of the same user, and core dumps, from reading this one's memory.
// Its children are not affected: a new program starts with new memory.
func HideMemory() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hiding the process's memory: %w", err)
	}
	return nil
}

// RunAs is [Run] as another user, with no group but the one given; it needs the privilege.
func RunAs(ctx context.Context, c Command, uid, gid int, output io.Writer) error {
	attributes := OwnGroup()
	attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return run(ctx, c, attributes, output)
}

// KillGroup kills a process and its group.
func KillGroup(p *os.Process) {
	_ = unix.Kill(-p.Pid, unix.SIGKILL)
	_ = p.Kill()
}

// endGroup asks a process and its group to end.
func endGroup(p *os.Process) { _ = unix.Kill(-p.Pid, unix.SIGTERM) }

// AwaitExit waits until a process has ended, leaves it to be reaped, and reports whether it could.
// Until it is reaped, its id is not reused.
func AwaitExit(p *os.Process) bool {
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// await waits until a process has ended and returns a function that reaps it.
func await(cmd *exec.Cmd) (reap func() error) {
	AwaitExit(cmd.Process)
	return func() error { return Wait(cmd) }
}

// withoutInherited runs start while the descriptors that this process inherited, such as systemd's sockets or a
// shell's redirections, cannot be inherited by the new process. They are marked only meanwhile, because an heir does
// get them.
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

// withoutAmbient runs start while this thread, and so the new process, has no ambient capabilities (capabilities(7)).
// They are restored afterwards, because an heir does get them.
func withoutAmbient(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	held := ambient()
	if len(held) == 0 {
		return start()
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("dropping ambient capabilities: %w", err)
	}
	defer func() {
		for _, capability := range held {
			_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, capability, 0, 0)
		}
	}()
	return start()
}

// ambient returns this thread's ambient capabilities. It stops at the first number that the kernel does not know.
func ambient() []uintptr {
	var held []uintptr
	for capability := uintptr(0); ; capability++ {
		set, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, capability, 0, 0)
		if err != nil {
			return held
		}
		if set == 1 {
			held = append(held, capability)
		}
	}
}
