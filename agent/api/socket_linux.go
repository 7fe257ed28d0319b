package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/credagent/credagent/internal/host"
)

// probeTimeout is how long to find out whether somebody listens at a socket takes at most.
const probeTimeout = time.Second

// SocketFile is where the local token API is, and who may connect.
type SocketFile struct {
	Path  string
	Mode  fs.FileMode // exact, whatever the umask
	Group string      // by name or number; "" leaves it to the system
}

// Listen listens at the socket. From its first instant it is at most the owner's; then it gets its
// group, then its mode. A socket that a killed process left is replaced, one at which somebody
// listens is not. Closing the listener removes the file.
func (f SocketFile) Listen(log *slog.Logger) (net.Listener, error) {
	gid := -1
	if f.Group != "" {
		var err error
		if gid, err = host.Group(f.Group); err != nil {
			return nil, fmt.Errorf("looking up group %q: %w", f.Group, err)
		}
	}
	if err := f.makeRoom(); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: ownerOnly}
	listener, err := config.Listen(context.Background(), "unix", f.Path)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", systemError(err))
	}
	unix := listener.(*net.UnixListener)
	unix.SetUnlinkOnClose(false) // it would also remove another's file
	own, err := f.give(gid)
	s := &socket{peerListener: &peerListener{unix, log}, path: f.Path, own: own}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// ownerOnly narrows the mode that a socket's file gets when the socket is bound: the kernel takes
// that from the socket itself, less the umask.
func ownerOnly(_, _ string, raw syscall.RawConn) error {
	var err error
	failed := raw.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) })
	return errors.Join(failed, err)
}

// give sets the file's group and mode, and returns what it then is.
func (f SocketFile) give(gid int) (fs.FileInfo, error) {
	if gid >= 0 {
		err := os.Lchown(f.Path, -1, gid)
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("changing its group to %s: %w; run as a member of that group", f.Group, systemError(err))
		}
		if err != nil {
			return nil, fmt.Errorf("changing its group to %s: %w", f.Group, systemError(err))
		}
	}
	if err := os.Chmod(f.Path, f.Mode); err != nil {
		return nil, fmt.Errorf("setting mode %04o: %w", f.Mode, systemError(err))
	}
	return os.Lstat(f.Path)
}

// makeRoom sees to it that the path is free, and in a directory in which it stays one's own.
func (f SocketFile) makeRoom() error {
	dir := filepath.Dir(f.Path)
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("opening directory %q: %w; create it, for example with RuntimeDirectory= or tmpfiles.d", dir, systemError(err))
	}
	if err == nil {
		err = host.CheckDirectory(dir, info)
	}
	if err != nil {
		return err
	}
	info, err = os.Lstat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return systemError(err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("it is not a socket (%s); remove it or configure another path", info.Mode())
	}
	return f.removeStale()
}

// removeStale removes a socket that nobody listens at.
func (f SocketFile) removeStale() error {
	conn, err := net.DialTimeout("unix", f.Path, probeTimeout)
	switch {
	case err == nil:
		_ = conn.Close()
		return errors.New("another process listens there: stop it, or configure another path")
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(f.Path); err != nil {
			return fmt.Errorf("removing the socket that an earlier process left: %w", systemError(err))
		}
		return nil
	}
	return fmt.Errorf("finding out whether another process listens there: %w", systemError(err))
}

// socket is a listener that takes its file along, if that is still its own.
type socket struct {
	*peerListener
	path   string
	own    fs.FileInfo // nil until it is known
	remove sync.Once
}

// Close implements [net.Listener].
func (s *socket) Close() error {
	s.remove.Do(func() {
		is, err := os.Lstat(s.path)
		if err == nil && (s.own == nil || os.SameFile(is, s.own) && is.ModTime().Equal(s.own.ModTime())) {
			_ = os.Remove(s.path)
		}
	})
	return s.peerListener.Close()
}

// systemError drops the call and the path that the standard library adds; the socket's own path is
// named by whoever shows the error.
func systemError(err error) error {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number
	}
	return err
}
