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
	dir, err := root.OpenFile(".", os.O_RDONLY|openFlags, 0) // which spares it a few system calls
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
