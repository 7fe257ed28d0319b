//go:build unix

package atomicfile

import (
	"errors"
	"os"
	"syscall"
)

// openFlags keep an open from following a link and from waiting for a pipe's other end.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// SyncDirectory makes a rename in the directory durable.
func SyncDirectory(root *os.Root) error {
	dir, err := root.OpenFile(".", os.O_RDONLY|openFlags, 0) // saves a few system calls
	if err != nil {
		return err
	}
	defer dir.Close()
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		// Some network and user-space file systems have no sync for directories.
		return nil
	}
	return err
}

// hold locks a temporary file while it is written, until it is closed or its process ends.
func hold(file *os.File) { _ = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

func isAbandoned(root *os.Root, temporary string, owner int) bool {
	info, err := root.Lstat(temporary)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Nlink != 1 || int(stat.Uid) != os.Geteuid() && int(stat.Uid) != owner {
		return false
	}
	file, err := Open(root, temporary, info)
	if err != nil {
		return false
	}
	defer file.Close()
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
