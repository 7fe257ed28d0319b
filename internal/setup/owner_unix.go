//go:build unix

package setup

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// ownerOf is whose a file is.
func ownerOf(info fs.FileInfo) owner {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return owner{int(stat.Uid), int(stat.Gid)}
	}
	return owner{-1, -1}
}

// settle gives a directory that was just made its owner and mode, by its descriptor: whoever may write
// to the directory above could put a link in its place meanwhile.
func settle(path string, to owner, mode fs.FileMode) error {
	dir, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return errors.Join(dir.Chmod(mode), to.give(dir))
}
