//go:build unix

package setup

import (
	"io/fs"
	"syscall"
)

// writable reports whether a user may create files in a directory, by its mode alone.
func writable(info fs.FileInfo, uid, gid int) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || uid == 0:
		return true
	case int(stat.Uid) == uid:
		return info.Mode()&0o300 == 0o300
	case int(stat.Gid) == gid:
		return info.Mode()&0o030 == 0o030
	}
	return info.Mode()&0o003 == 0o003
}
