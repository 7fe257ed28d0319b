package process

import (
	"context"
	"encoding/binary"
	"os"
	"os/signal"
	"reflect"

	"golang.org/x/sys/unix"
)

// Reap buries orphans until ctx ends. The kernel gives them to this process when it is the first of
// a container, or a subreaper (prctl(2)), and keeps what has ended until its parent has asked for it.
// Elsewhere there are none.
func Reap(ctx context.Context) {
	// The runtime tries out with a child of its own whether it can use pidfds: let it be now, and
	// not while somebody looks for orphans.
	_, _ = os.FindProcess(os.Getpid())
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	for {
		reapOrphans()
		select {
		case <-ctx.Done():
			return
		case <-ended:
		case <-children.reaped: // it may have stood before an orphan
		}
	}
}

// reapOrphans buries every child that has ended and was not started here. The kernel shows the first
// of them; one of our own is its starter's to wait for, who reports when that is done.
func reapOrphans() {
	children.Lock()
	defer children.Unlock()
	for {
		pid := firstEnded()
		if pid == 0 || children.own[pid] {
			return
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

// firstEnded is the number of a child that has ended and was not buried; 0 where there is none.
func firstEnded() int {
	var info unix.Siginfo
	if unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) != nil {
		return 0
	}
	return pidIn(info)
}

// pidIn reads si_pid, which stands first in what package unix does not name; nothing here is worth
// package unsafe.
func pidIn(info unix.Siginfo) int {
	fields := reflect.ValueOf(info)
	union := fields.Field(fields.NumField() - 1)
	var pid [4]byte
	for i := range pid {
		pid[i] = byte(union.Index(i).Uint())
	}
	return int(binary.NativeEndian.Uint32(pid[:]))
}
