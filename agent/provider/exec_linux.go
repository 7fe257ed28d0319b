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

	"golang.org/x/sys/unix"
)

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

// executableMemory marks the memory as executable, which a hardened kernel requires and one before Linux 6.3 does not
// support.
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
