//go:build unix && !linux

package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// held is a component as it was when checked. Not every system can hold a directory open without read permission, so
// it is checked by its path.
type held struct {
	step
	device, inode uint64
}

func holdRoot() (*held, error) { return look("/", 0) }

// openWithoutLinks knows no quicker way here.
func (d Directory) openWithoutLinks() *os.Root { return nil }

func (h *held) hold(name string) (*held, error) { return look(filepath.Join(h.path, name), h.device) }

func look(path string, above uint64) (*held, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, bare(err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	h := &held{device: uint64(stat.Dev), inode: stat.Ino}
	h.step = step{path, int(stat.Uid), info.Mode(), h.device != above}
	return h, nil
}

func bare(err error) error {
	var inPath *fs.PathError
	if errors.As(err, &inPath) {
		return inPath.Err
	}
	return err
}

func (h *held) close() {}

func (h *held) readLink() (string, error) { return os.Readlink(h.path) }

func (h *held) makeDirectory(name string, mode fs.FileMode) error {
	path := filepath.Join(h.path, name)
	err := os.Mkdir(path, mode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return bare(err)
	}
	root, err := os.OpenRoot(h.path)
	if err != nil {
		return bare(err)
	}
	defer root.Close()
	return root.Chmod(name, mode)
}

func (h *held) openFile(_ string, want *held) (*os.File, error) {
	file, err := os.OpenFile(want.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, bare(err)
	}
	info, err := file.Stat()
	if err == nil && !want.same(info) {
		err = errReplaced
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
