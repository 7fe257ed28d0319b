package host

import "golang.org/x/sys/unix"

// IsImmutable reports whether chattr has made a file or directory one that nobody may change, root
// included.
func IsImmutable(path string) bool {
	var stat unix.Statx_t
	const attributes = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND
	return unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &stat) == nil && stat.Attributes&attributes != 0
}
