//go:build unix

package main

import (
	"os"
	"syscall"
)

// ownerOf is who owns a directory that nobody else can write to.
func ownerOf(dir string) (uid int, ok bool) {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
