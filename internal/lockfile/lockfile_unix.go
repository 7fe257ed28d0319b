//go:build unix

package lockfile

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

func lockByte(file *os.File, at int64) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: at, Len: 1}
	return take(
		func() error { return unix.FcntlFlock(file.Fd(), unix.F_SETLK, &lock) },
		func() (int, bool) { return holder(file, at) },
	)
}

// take tries once more if the holder has ended before it could be identified.
func take(try func() error, holder func() (pid int, held bool)) error {
	pid, held := 0, false
	for range 2 {
		err := try()
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			return err
		}
		if pid, held = holder(); held {
			break
		}
	}
	return &HeldError{PID: pid}
}

// holder returns the process that holds a lock, 0 if unknown, and whether any does.
func holder(file *os.File, at int64) (pid int, held bool) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: at, Len: 1}
	if err := unix.FcntlFlock(file.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, true
	}
	if lock.Type == unix.F_UNLCK {
		return 0, false
	}
	return int(lock.Pid), true
}

func unlockByte(file *os.File, at int64) {
	lock := unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart, Start: at, Len: 1}
	_ = unix.FcntlFlock(file.Fd(), unix.F_SETLK, &lock) // releasing a held lock does not fail
}

// TryExclusive locks the whole file for this descriptor, until it is closed. It reports whether it got the lock, and
// true if the file system has no locks.
func TryExclusive(file *os.File) bool {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	return !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR)
}
