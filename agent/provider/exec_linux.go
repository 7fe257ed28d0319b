package provider

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// self is the running executable even after an upgrade replaced its file, so that the agent and
// its built-in providers are always of one version.
func self() (string, error) { return "/proc/self/exe", nil }

// detached keeps the terminal's signals from a provider: the agent alone ends it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills a process and what it started.
func killGroup(p *os.Process) {
	_ = unix.Kill(-p.Pid, unix.SIGKILL)
	_ = p.Kill()
}

// awaitExit waits until a process has ended, leaves it to be reaped, and reports whether it could.
func awaitExit(p *os.Process) bool {
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// marking is held while marks of descriptors are changed: they are the whole process's, and of two
// starts at once the first to end would take away the marks that the other still needs.
var marking sync.Mutex

// withoutInherited runs start while no descriptor that the agent inherited itself, such as a
// socket of systemd's or a file of a shell's redirection, can pass on to what start starts. They
// are marked only meanwhile, because credagent exec does pass them on to its command.
func withoutInherited(start func() error) error {
	marking.Lock()
	defer marking.Unlock()
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

// sealed copies an executable into sealed memory, checks the copy's digest and returns it: the
// bytes that were checked are the bytes that run, whatever happens to the file meanwhile.
func sealed(path, digest string) (*os.File, error) {
	source, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading provider: %w", err)
	}
	defer source.Close()
	fd, err := executableMemory()
	if err != nil {
		return nil, fmt.Errorf("making memory for provider %q: %w", path, err)
	}
	// The child's own descriptors start at 3 and would replace a low one before the exec.
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 100)
	_ = unix.Close(fd)
	if err != nil {
		return nil, fmt.Errorf("making memory for provider %q: %w", path, err)
	}
	copied := os.NewFile(uintptr(high), path)
	if err := fillAndSeal(copied, source, digest); err != nil {
		_ = copied.Close()
		return nil, err
	}
	return copied, nil
}

// executableMemory says that it will be run, which a hardened kernel must be told and one before
// Linux 6.3 does not know.
func executableMemory() (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("credagent-provider", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("credagent-provider", flags)
	}
	return fd, err
}

func fillAndSeal(to, from *os.File, digest string) error {
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(to, sum), from); err != nil {
		return fmt.Errorf("copying provider %q: %w", from.Name(), err)
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(to.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("sealing provider %q: %w", from.Name(), err)
	}
	got := hex.EncodeToString(sum.Sum(nil))
	if subtle.ConstantTimeCompare([]byte(got), []byte(strings.ToLower(digest))) != 1 {
		return fmt.Errorf("refusing provider %q: its SHA-256 is %s, but plugins.sha256 pins %s", from.Name(), got, digest)
	}
	start := make([]byte, 2)
	if _, err := to.ReadAt(start, 0); err == nil && string(start) == "#!" {
		return fmt.Errorf("refusing provider %q: it is a script, and only a program can be pinned: its interpreter would not read the bytes that were checked", from.Name())
	}
	return nil
}

// pathOf names an open executable for execve.
func pathOf(executable *os.File) string {
	return "/proc/self/fd/" + strconv.Itoa(int(executable.Fd()))
}
