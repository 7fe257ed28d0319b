package host

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// openWithoutLinks opens a directory whose path has no link in one step, and then checks it and the directories above
// it, each with one system call: ".." from an open directory cannot be redirected by a link. It returns nil if
// anything is wrong, which the walk then explains, or if the kernel is older than Linux 5.8.
func (d Directory) openWithoutLinks() *os.Root {
	if !filepath.IsAbs(d.Path) || filepath.Clean(d.Path) != d.Path || d.Path == "/" {
		return nil
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, d.Path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil
	}
	last := &held{fd: fd}
	defer last.close()
	way, ok := last.upwards(d.Path)
	j := d.judge()
	for _, s := range way {
		ok = ok && j.ownership(s) == nil
	}
	if !ok || j.chain(way) != nil {
		return nil
	}
	root, err := last.root()
	if err != nil {
		return nil
	}
	return root
}

// upwards fills in the held component, and returns all components of the path, from the root down. It fails if the
// kernel does not report mounts, or if the directory was moved meanwhile.
func (h *held) upwards(path string) (way []step, ok bool) {
	way = make([]step, strings.Count(path, "/")+1)
	var top unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, "/", unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO, &top) != nil {
		return nil, false
	}
	up, at := "", path
	for i := len(way) - 1; i >= 0; i-- {
		var stat unix.Statx_t
		err := unix.Statx(h.fd, up, unix.AT_EMPTY_PATH, unix.STATX_TYPE|unix.STATX_MODE|unix.STATX_UID|unix.STATX_INO, &stat)
		if err != nil || stat.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
			return nil, false
		}
		way[i] = step{at, int(stat.Uid), modeOf(uint32(stat.Mode)), stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0}
		if up == "" {
			h.step, h.device, h.inode = way[i], unix.Mkdev(stat.Dev_major, stat.Dev_minor), stat.Ino
		}
		isTop := stat.Ino == top.Ino && stat.Dev_major == top.Dev_major && stat.Dev_minor == top.Dev_minor
		if isTop != (i == 0) {
			return nil, false
		}
		up, at = up+"../", filepath.Dir(at)
	}
	return way, true
}
