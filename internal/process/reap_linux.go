package process

import (
	"context"
	"encoding/binary"
	"os"
	"os/signal"
	"reflect"

	"golang.org/x/sys/unix"
)

// Reap reaps orphans until ctx ends. The kernel gives them to this process if it is the first of a container, or a
// subreaper (prctl(2)), and keeps ended processes until their parent waits for them. Otherwise there are none.
func Reap(ctx context.Context) {
	// The runtime starts a child to find out whether it can use pidfds. Make it do so now, and not while orphans are
	// being reaped.
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
		case <-children.reaped: // it may have hidden an orphan
		}
	}
}

// reapOrphans reaps every ended child that was not started here. The kernel shows only the first one; if that was
// started here, its starter waits for it and then signals reaped.
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

// firstEnded returns the id of a child that has ended and was not reaped; 0 if there is none.
func firstEnded() int {
	var info unix.Siginfo
	if unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) != nil {
		return 0
	}
	return pidIn(info)
}

// pidIn reads si_pid, the first field of the part that package unix does not define. This does not justify package
// unsafe.
func pidIn(info unix.Siginfo) int {
	fields := reflect.ValueOf(info)
	union := fields.Field(fields.NumField() - 1)
	var pid [4]byte
	for i := range pid {
		pid[i] = byte(union.Index(i).Uint())
	}
	return int(binary.NativeEndian.Uint32(pid[:]))
}
