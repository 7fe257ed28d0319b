//go:build linux

package sink

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// oldEnough is how long ago a file must have changed so that its change time would show another change: no relevant
// file system has a coarser clock.
const oldEnough = 2 * time.Second

// fileStamp is what stat reported about a file. The change time changes with every modification of a file and its
// attributes, and cannot be set.
type fileStamp struct {
	device, inode uint64
	changed       unix.Timespec
}

// stampOf returns the stamp of an open file; nil if it would not reveal a change.
func stampOf(file *os.File) *fileStamp {
	now := time.Now() // before stat, so that a later change does not look old
	var stat unix.Stat_t
	if unix.Fstat(int(file.Fd()), &stat) != nil || now.Sub(time.Unix(stat.Ctim.Unix())) < oldEnough {
		return nil
	}
	return &fileStamp{uint64(stat.Dev), stat.Ino, stat.Ctim}
}

// matches reports whether the file at the path still has the same stamp.
func (s *fileStamp) matches(path string) bool {
	var stat unix.Stat_t
	return unix.Lstat(path, &stat) == nil && *s == fileStamp{uint64(stat.Dev), stat.Ino, stat.Ctim}
}
