//go:build linux

package sink

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// oldEnough is how long ago a file must have changed for its change time to tell whether it did so
// again: no file system that matters has a coarser clock.
const oldEnough = 2 * time.Second

// fileStamp is what the kernel said of a file. The change time moves with everything that happens to a
// file, and nobody can set it.
type fileStamp struct {
	device, inode uint64
	changed       unix.Timespec
}

// stampOf returns what the kernel says of an open file; nil where that would not tell of a change.
func stampOf(file *os.File) *fileStamp {
	now := time.Now() // before, so that a change since then does not look old
	var stat unix.Stat_t
	if unix.Fstat(int(file.Fd()), &stat) != nil || now.Sub(time.Unix(stat.Ctim.Unix())) < oldEnough {
		return nil
	}
	return &fileStamp{uint64(stat.Dev), stat.Ino, stat.Ctim}
}

// matches reports whether the kernel still says the same of what is at the path.
func (s *fileStamp) matches(path string) bool {
	var stat unix.Stat_t
	return unix.Lstat(path, &stat) == nil && *s == fileStamp{uint64(stat.Dev), stat.Ino, stat.Ctim}
}
