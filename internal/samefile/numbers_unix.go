//go:build unix

package samefile

import (
	"io/fs"
	"syscall"
)

func numbers(info fs.FileInfo) (device, inode uint64, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return uint64(stat.Dev), uint64(stat.Ino), true //nolint:unconvert // their types differ between systems
}
