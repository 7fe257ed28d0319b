//go:build unix

package hoststate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// runtimeDirectory is the runtime directory of the packages' service.
const runtimeDirectory = "/run/credagent"

// openFlags keep an open from following a link and from waiting for a pipe's other end.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// openDirectory opens credagent's own directory in path. It has mode 0700 and belongs to root, this user or, for
// root, to the owner of path: root's commands share it with the service's user.
//
// With create, path is created if its parent exists; with only, nothing is created.
func openDirectory(path string, create, only bool) (*os.Root, error) {
	if create {
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	parent, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	owner, err := ownerOf(parent)
	if err != nil {
		return nil, err
	}
	if !only {
		if err := parent.Mkdir(subdirectory, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	info, err := parent.Lstat(subdirectory)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%q is not a directory", filepath.Join(path, subdirectory))
	}
	dir, err := parent.OpenRoot(subdirectory)
	if err != nil {
		return nil, err
	}
	if err := admit(dir, owner); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// admit gives a directory that root has created to the owner of its parent, and refuses one that another user could
// have filled or that this process cannot write to.
func admit(dir *os.Root, parentOwner int) error {
	self, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer self.Close()
	info, err := self.Stat()
	if err != nil {
		return err
	}
	uid := os.Geteuid()
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if uid == 0 && owner == 0 && parentOwner != 0 {
		if err := self.Chown(parentOwner, -1); err != nil {
			return err
		}
		owner = parentOwner
	}
	switch {
	case owner != uid && (uid != 0 || owner != parentOwner):
		return fmt.Errorf("%q belongs to user %d", subdirectory, owner)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%q can be entered by others (mode %04o); run: chmod 0700 %q", subdirectory, info.Mode().Perm(), dir.Name())
	}
	return probe(dir)
}

// probe reports whether a file can be created in the directory: the mode does not reveal a read-only file system.
func probe(dir *os.Root) error {
	file, err := dir.OpenFile(lockName, os.O_RDWR|os.O_CREATE|openFlags, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	return giveToOwner(dir, file)
}

// giveToOwner gives a file that root creates to the owner of the directory, who could not read it otherwise. The
// owner may have put a hard link to another user's file there; its owner does not change.
func giveToOwner(dir *os.Root, file *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	owner, err := ownerOf(dir)
	if err != nil || owner == 0 {
		return err
	}
	opened, err := file.Stat()
	if err != nil || int(opened.Sys().(*syscall.Stat_t).Uid) == owner {
		return err
	}
	// The open file alone could tell of one link, because its name here was removed meanwhile.
	named, err := dir.Lstat(filepath.Base(file.Name()))
	if err != nil {
		return err
	}
	if !os.SameFile(opened, named) || named.Sys().(*syscall.Stat_t).Nlink > 1 {
		return fmt.Errorf("%q has another name elsewhere, so it is not given to user %d; run: rm %q", filepath.Base(file.Name()), owner, file.Name())
	}
	return file.Chown(owner, -1)
}

func ownerOf(dir *os.Root) (int, error) {
	info, err := dir.Stat(".")
	if err != nil {
		return 0, err
	}
	return int(info.Sys().(*syscall.Stat_t).Uid), nil
}

// fileNumber returns a file's device and inode.
func fileNumber(info fs.FileInfo) string {
	stat := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}
