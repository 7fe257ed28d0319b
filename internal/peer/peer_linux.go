package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// usualGroups is the number of supplementary groups that the first try has room for.
const usualGroups = 32

// Of returns the peer at the other end of a connection.
func Of(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	failed := raw.Control(func(fd uintptr) { p, err = of(int(fd)) })
	if err = errors.Join(failed, err); err != nil {
		return Peer{}, fmt.Errorf("asking who connected: %w", err)
	}
	return p, nil
}

func of(fd int) (Peer, error) {
	credentials, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, os.NewSyscallError("getsockopt(SO_PEERCRED)", err)
	}
	groups, err := groupsOf(fd)
	if err != nil {
		return Peer{}, os.NewSyscallError("getsockopt(SO_PEERGROUPS)", err)
	}
	p := Peer{UID: int(credentials.Uid), GIDs: make([]int, 0, 1+len(groups))}
	p.GIDs = append(p.GIDs, int(credentials.Gid))
	for _, group := range groups {
		p.GIDs = append(p.GIDs, int(group))
	}
	return p, nil
}

// groupsOf returns the supplementary groups. The kernel stores them with the connection, so unlike those in
// /proc/PID/status they cannot belong to another process that has reused the id, and they are available even if /proc
// is hidden. Kernels before 4.13 do not report them: then no caller is admitted by a supplementary group.
func groupsOf(fd int) ([]uint32, error) {
	groups := make([]uint32, usualGroups)
	n, err := getsockopt(fd, unix.SO_PEERGROUPS, groups)
	if errors.Is(err, unix.ERANGE) {
		groups = make([]uint32, n)
		n, err = getsockopt(fd, unix.SO_PEERGROUPS, groups)
	}
	if errors.Is(err, unix.ENOPROTOOPT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return groups[:n], nil
}

// getsockopt fills values and returns how many exist, even if there was not room for all: golang.org/x/sys has no
// call for an option that is a list.
func getsockopt(fd, option int, values []uint32) (int, error) {
	const size = unsafe.Sizeof(values[0])
	length := uint32(uintptr(len(values)) * size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(values))), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return int(uintptr(length) / size), errno
	}
	return int(uintptr(length) / size), nil
}
