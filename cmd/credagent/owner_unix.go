//go:build unix

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ownerOf returns the owner of a directory that nobody else can write to.
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

// placedBy returns the owner of a path's directory, if only that user and root can have created its entries and the
// directory itself: each directory above is theirs, and not writable by others, not even with the sticky bit.
func placedBy(path string) (uid int, ok bool) {
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return 0, false
	}
	uid, ok = ownerOfReal(dir)
	for at := dir; ok && at != filepath.Dir(at); {
		at = filepath.Dir(at)
		above, sound := ownerOfReal(at)
		sound = sound && (above == 0 || above == uid)
		ok = sound || at == filepath.Dir(dir) && isVolume(at)
	}
	return uid, ok
}

// ownerOfReal is ownerOf, but also follows links that belong to root.
func ownerOfReal(dir string) (uid int, ok bool) {
	info, err := os.Lstat(dir)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return ownerOf(dir)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != 0 {
		return 0, false
	}
	target, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return 0, false
	}
	if _, ok := placedBy(filepath.Join(target, "x")); !ok {
		return 0, false
	}
	return ownerOf(target)
}

// isVolume reports whether a directory is the mount point of a pod's volume, which is open to everybody: the agent
// creates its directory there, and does not start if somebody else has created it.
func isVolume(dir string) bool {
	info, err := os.Lstat(dir)
	above, errAbove := os.Lstat(filepath.Dir(dir))
	if err != nil || errAbove != nil || !info.IsDir() || info.Mode()&fs.ModeSticky != 0 {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	parent, alsoOK := above.Sys().(*syscall.Stat_t)
	return ok && alsoOK && stat.Uid == 0 && stat.Dev != parent.Dev
}
