package host

import "golang.org/x/sys/unix"

// IsImmutable reports whether a file or directory has the immutable attribute of chattr(1), so that not even root may
// change it.
func IsImmutable(path string) bool {
	var stat unix.Statx_t
	const attributes = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND
	return unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &stat) == nil && stat.Attributes&attributes != 0
}
