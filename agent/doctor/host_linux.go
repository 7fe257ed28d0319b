package doctor

import (
	"errors"
	"io/fs"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// magics identify file systems by their magic numbers (statfs(2)).
var magics = map[int64]fileSystem{
	unix.NFS_SUPER_MAGIC:       {name: "NFS", remote: true},
	unix.SMB_SUPER_MAGIC:       {name: "SMB", remote: true},
	unix.CIFS_SUPER_MAGIC:      {name: "SMB", remote: true},
	unix.SMB2_SUPER_MAGIC:      {name: "SMB", remote: true},
	unix.V9FS_MAGIC:            {name: "9p", remote: true},
	unix.CEPH_SUPER_MAGIC:      {name: "Ceph", remote: true},
	unix.AFS_SUPER_MAGIC:       {name: "AFS", remote: true},
	unix.CODA_SUPER_MAGIC:      {name: "Coda", remote: true},
	unix.FUSE_SUPER_MAGIC:      {name: "a user-space file system (FUSE)", remote: true},
	unix.OVERLAYFS_SUPER_MAGIC: {name: "overlay", layer: true},
	unix.TMPFS_MAGIC:           {name: "tmpfs", memory: true},
	unix.RAMFS_MAGIC:           {name: "ramfs", memory: true},
	unix.EXT4_SUPER_MAGIC:      {name: "ext4", disk: true},
	unix.XFS_SUPER_MAGIC:       {name: "XFS", disk: true},
	unix.BTRFS_SUPER_MAGIC:     {name: "Btrfs", disk: true},
	unix.F2FS_SUPER_MAGIC:      {name: "F2FS", disk: true},
	0x2fc12fc1:                 {name: "ZFS", disk: true},
}

// fileSystemOf describes the file system of a path.
func fileSystemOf(path string) fileSystem {
	var stat unix.Statfs_t
	if unix.Statfs(path, &stat) != nil {
		return fileSystem{}
	}
	return magics[int64(stat.Type)]
}

// accessACL returns the POSIX ACL of a path in the kernel's form; nil for none.
func accessACL(path string) []byte {
	raw := make([]byte, 64<<10)
	n, err := unix.Getxattr(path, "system.posix_acl_access", raw)
	if err != nil {
		return nil
	}
	return raw[:n]
}

func ownerIn(info fs.FileInfo) (owner, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return owner{}, false
	}
	return owner{int(stat.Uid), int(stat.Gid)}, true
}

// notifyTimeout is the time limit for the notification of a change.
const notifyTimeout = time.Second

// watched makes a change in a directory, and reports whether the system notifies of it. If watching is not possible
// at all, it reports true.
func watched(dir string, change func() error) (told bool, err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return true, change()
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO); err != nil {
		return true, change()
	}
	if err := change(); err != nil {
		return false, err
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(notifyTimeout.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n > 0, nil
		}
	}
}
