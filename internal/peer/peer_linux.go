package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// usualGroups is for how many supplementary groups there is room at the first try.
const usualGroups = 32

// Of returns who is at the other end of a connection.
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

// groupsOf returns the supplementary groups. The kernel keeps them with the connection, so unlike
// /proc/PID/status they cannot be those of another process that got the number since, and they can
// be had where /proc is hidden. A kernel before 4.13 does not report them: nobody is admitted by one.
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

// getsockopt fills values and returns how many there are, also when there was not room for all:
// golang.org/x/sys has no call for an option that is a list.
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
