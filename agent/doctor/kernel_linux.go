package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// kernel checks the kernel features that the agent needs.
func (e *exam) kernel(context.Context) []Finding {
	all := e.notifies(unix.InotifyInit1)
	if len(e.Config.Plugins.SHA256) > 0 {
		all = append(all, runs(unix.MemfdCreate)...)
	}
	return append(all, disciplined(unix.Adjtimex)...)
}

// notifies checks whether the system can report changes, using init.
func (e *exam) notifies(init func(flags int) (int, error)) []Finding {
	fd, err := init(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		defer unix.Close(fd)
		_, err = unix.InotifyAddWatch(fd, "/", unix.IN_MOVED_TO)
	}
	if err == nil {
		return nil
	}
	f := Finding{
		Level: Warning, What: fmt.Sprintf("the system does not tell of changes of files (inotify): %v", err),
		Why: "a rotated credential is noticed by looking, within half a minute",
	}
	switch {
	case errors.Is(err, unix.EMFILE):
		f.Fix = e.raise("max_user_instances")
	case errors.Is(err, unix.ENOSPC):
		f.Fix = e.raise("max_user_watches")
	}
	return []Finding{f}
}

func (e *exam) raise(limit string) string {
	now, err := os.ReadFile(filepath.Join(e.proc, "sys", "fs", "inotify", limit))
	if err != nil {
		return "raise fs.inotify." + limit
	}
	return fmt.Sprintf("raise fs.inotify.%s above its %s: sysctl -w fs.inotify.%s=N", limit, strings.TrimSpace(string(now)), limit)
}

// runs checks whether memory can be executed, as for a pinned provider's copy.
func runs(create func(name string, flags int) (int, error)) []Finding {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := create("credagent-doctor", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = create("credagent-doctor", flags)
	}
	if err == nil {
		_ = unix.Close(fd)
		return nil
	}
	return about("plugins.sha256", Finding{
		Level: Problem, What: fmt.Sprintf("the system lets no memory be run (memfd_create): %v", err),
		Why: "a pinned provider runs from a sealed copy, so it will not start", Fix: "sysctl -w vm.memfd_noexec=1, or allow memfd_create where seccomp does not",
	})
}

// disciplined checks whether the clock is synchronized.
func disciplined(adjust func(*unix.Timex) (int, error)) []Finding {
	var clock unix.Timex // without modes it only reads
	if _, err := adjust(&clock); err != nil || clock.Status&unix.STA_UNSYNC == 0 {
		return nil
	}
	return []Finding{{
		Level: Note, What: "nothing that the kernel knows of keeps this host's clock right",
		Why: "it drifts until a server refuses assertions", Fix: "timedatectl set-ntp true, unless the machine that this one runs on sets it",
	}}
}

// maySignal reports whether this user may send a signal to a process.
func maySignal(pid int) bool { return !errors.Is(unix.Kill(pid, 0), unix.EPERM) }
