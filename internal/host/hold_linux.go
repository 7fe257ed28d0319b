package host

import (
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// held is a component that is held open, so that it cannot be replaced.
type held struct {
	step
	device, inode uint64
	fd            int
}

func holdRoot() (*held, error) { return holdAt(unix.AT_FDCWD, "/", "/", 0) }

// hold opens an entry of a directory without following a link.
func (h *held) hold(name string) (*held, error) {
	return holdAt(h.fd, name, filepath.Join(h.path, name), h.device)
}

func holdAt(dir int, name, path string, above uint64) (*held, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		unix.Close(fd)
		return nil, err
	}
	h := &held{device: uint64(stat.Dev), inode: stat.Ino, fd: fd} //nolint:unconvert // it has 32 bits on some
	h.step = step{path, int(stat.Uid), modeOf(stat.Mode), isMount(fd, h.device != above)}
	return h, nil
}

// isMount asks the kernel; before Linux 5.8 it compares devices.
func isMount(fd int, otherDevice bool) bool {
	var stat unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &stat)
	if err != nil || stat.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return otherDevice
	}
	return stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

func modeOf(raw uint32) fs.FileMode {
	mode := fs.FileMode(raw & 0o777)
	switch raw & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFREG:
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	default:
		mode |= fs.ModeDevice
	}
	if raw&unix.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

func (h *held) close() { _ = unix.Close(h.fd) }

func (h *held) readLink() (string, error) {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(h.fd, "", target)
	return string(target[:max(n, 0)]), err
}

// makeDirectory creates a directory with exactly this mode, whatever the umask. If another process was faster, the
// caller has to check its directory.
func (h *held) makeDirectory(name string, mode fs.FileMode) error {
	err := unix.Mkdirat(h.fd, name, 0o700)
	if err == unix.EEXIST { //nolint:errorlint // it is a number
		return nil
	}
	if err != nil {
		return err
	}
	fd, err := unix.Openat(h.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if int(stat.Uid) != os.Geteuid() {
		return nil // another user's, or on a file system that maps owners: it is refused later
	}
	return unix.Fchmod(fd, stat.Mode&unix.S_ISGID|uint32(mode.Perm()))
}

func (h *held) openFile(name string, want *held) (*os.File, error) {
	fd, err := unix.Openat(h.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), want.path)
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
