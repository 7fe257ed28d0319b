//go:build unix

package filewatch

import (
	"fmt"
	"io/fs"
	"syscall"
)

// inode distinguishes a replaced file from an identical one, and detects a change of owner.
func inode(info fs.FileInfo) string {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d,%d,%d", stat.Ino, stat.Uid, stat.Gid)
	}
	return ""
}
