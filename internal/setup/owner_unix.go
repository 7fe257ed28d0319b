//go:build unix

package setup

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// ownerOf returns a file's owner.
func ownerOf(info fs.FileInfo) owner {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return owner{int(stat.Uid), int(stat.Gid)}
	}
	return owner{-1, -1}
}

// settle gives a new directory its owner and mode, by its descriptor: a user who may write to the directory above
// could replace it with a link meanwhile.
func settle(path string, to owner, mode fs.FileMode) error {
	dir, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return errors.Join(dir.Chmod(mode), to.give(dir))
}
