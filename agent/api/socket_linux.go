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

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/internal/host"
)

// probeTimeout limits the check whether a socket has a listener.
const probeTimeout = time.Second

// SocketFile describes the socket of the local token API, and who may connect.
type SocketFile struct {
	Path  string
	Mode  fs.FileMode // exact, whatever the umask
	Group string      // by name or number; "" leaves it to the system
}

// Listen listens on the socket. At first only its owner has access; then it gets its group, then its mode, through a
// descriptor of the socket's file, so no link is followed. A socket that a killed process left is replaced; one with
// a listener is not. Closing the listener removes the file.
func (f SocketFile) Listen(log *slog.Logger) (net.Listener, error) {
	gid := -1
	if f.Group != "" {
		var err error
		if gid, err = host.Group(f.Group); err != nil {
			return nil, fmt.Errorf("looking up group %q: %w", f.Group, err)
		}
	}
	p, err := f.open()
	if err != nil {
		return nil, err
	}
	listener, err := f.listen(p, gid, log)
	if err != nil {
		p.close()
		return nil, err
	}
	return listener, nil
}

func (f SocketFile) listen(p *place, gid int, log *slog.Logger) (net.Listener, error) {
	if err := p.makeRoom(); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: ownerOnly}
	listener, err := config.Listen(context.Background(), "unix", p.address())
	if err != nil {
		return nil, fmt.Errorf("listening: %w", systemError(err))
	}
	bound := listener.(*net.UnixListener)
	bound.SetUnlinkOnClose(false) // it would also remove another's file
	own, err := f.give(p, gid)
	if err != nil {
		_ = p.root.Remove(p.name)
		_ = bound.Close()
		return nil, err
	}
	return &socket{peerListener: &peerListener{bound, log}, place: p, own: own}, nil
}

// ownerOnly restricts the mode that a socket's file gets when the socket is bound: the kernel uses the mode of the
// socket itself, minus the umask.
func ownerOnly(_, _ string, raw syscall.RawConn) error {
	var err error
	failed := raw.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) })
	return errors.Join(failed, err)
}

// place is a name in a directory that is held open while the socket exists.
type place struct {
	path string // as configured
	name string
	root *os.Root
	dir  *os.File // the same directory
}

func (f SocketFile) open() (*place, error) {
	dir := filepath.Dir(f.Path)
	root, err := host.Directory{Path: dir, Owner: host.NoOwner}.Open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening directory %q: %w; create it, for example with RuntimeDirectory= or tmpfiles.d", dir, systemError(err))
	}
	if err != nil {
		return nil, fmt.Errorf("opening directory %q: %w", dir, err)
	}
	held, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("opening directory %q: %w", dir, systemError(err))
	}
	return &place{f.Path, filepath.Base(f.Path), root, held}, nil
}

func (p *place) close() {
	_ = p.dir.Close()
	_ = p.root.Close()
}

// address returns the path of the socket through the directory that is held open, or the configured path if there is
// no /proc or the name is too long.
func (p *place) address() string {
	held := fmt.Sprintf("/proc/self/fd/%d", p.dir.Fd())
	if _, err := os.Stat(held); err != nil || len(held)+1+len(p.name) > mostPath {
		return p.path
	}
	return held + "/" + p.name
}

// mostPath is the size of sun_path of unix(7), without the final NUL.
const mostPath = 107

// give sets the file's group and mode, and returns its resulting information.
func (f SocketFile) give(p *place, gid int) (fs.FileInfo, error) {
	file, err := unix.Openat(int(p.dir.Fd()), p.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("finding the socket just made: %w", err)
	}
	defer unix.Close(file)
	var stat unix.Stat_t
	if err := unix.Fstat(file, &stat); err != nil {
		return nil, fmt.Errorf("finding the socket just made: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK || int(stat.Uid) != os.Geteuid() {
		return nil, errors.New("another program replaced it")
	}
	if err := clearACL(file); err != nil {
		return nil, err
	}
	if gid >= 0 {
		err := unix.Fchownat(file, "", -1, gid, unix.AT_EMPTY_PATH)
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("changing its group to %s: %w; run as a member of that group", f.Group, systemError(err))
		}
		if err != nil {
			return nil, fmt.Errorf("changing its group to %s: %w", f.Group, systemError(err))
		}
	}
	if err := setMode(file, p, f.Mode); err != nil {
		return nil, fmt.Errorf("setting mode %04o: %w", f.Mode, systemError(err))
	}
	return p.root.Lstat(p.name)
}

// clearACL removes an ACL that the socket inherited from its directory, and verifies that: otherwise the mode would
// be the mask for the ACL's entries, and let them connect.
func clearACL(file int) error {
	const attribute = "system.posix_acl_access"
	path := fmt.Sprintf("/proc/self/fd/%d", file) // attributes cannot be accessed through an O_PATH descriptor
	err := unix.Removexattr(path, attribute)
	if err == nil || errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, fs.ErrNotExist) {
		_, err = unix.Getxattr(path, attribute, nil)
	}
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP), errors.Is(err, fs.ErrNotExist): // no ACL, none here, no /proc
		return nil
	case err == nil:
		err = errors.New("it is still there")
	}
	return fmt.Errorf("removing the ACL that its directory gave it: %w; remove the directory's default ACL: setfacl -k", err)
}

// setMode changes the mode of the file itself: by fchmodat2 (Linux 6.6), else by /proc, else by its name in the
// directory, which others cannot write to; never through a link.
func setMode(file int, p *place, mode fs.FileMode) error {
	err := unix.Fchmodat(file, "", uint32(mode), unix.AT_EMPTY_PATH)
	if err == nil {
		return nil
	}
	err = unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", file), uint32(mode))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.root.Chmod(p.name, mode)
}

// makeRoom makes sure that the name is free.
func (p *place) makeRoom() error {
	info, err := p.root.Lstat(p.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return systemError(err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("it is not a socket (%s); remove it or configure another path", info.Mode())
	}
	return p.removeStale()
}

// removeStale removes a socket without a listener.
func (p *place) removeStale() error {
	conn, err := net.DialTimeout("unix", p.address(), probeTimeout)
	switch {
	case err == nil:
		_ = conn.Close()
		return errors.New("another process listens there: stop it, or configure another path")
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := p.root.Remove(p.name); err != nil {
			return fmt.Errorf("removing the socket that an earlier process left: %w", systemError(err))
		}
		return nil
	}
	return fmt.Errorf("finding out whether another process listens there: %w", systemError(err))
}

// socket is a listener that removes its file when closed, if it is still its own.
type socket struct {
	*peerListener
	place  *place
	own    fs.FileInfo
	remove sync.Once
}

// Close implements [net.Listener].
func (s *socket) Close() error {
	s.remove.Do(func() {
		is, err := s.place.root.Lstat(s.place.name)
		if err == nil && os.SameFile(is, s.own) && is.ModTime().Equal(s.own.ModTime()) {
			_ = s.place.root.Remove(s.place.name)
		}
		s.place.close()
	})
	return s.peerListener.Close()
}

// systemError drops the call and the path that the standard library adds; the caller adds the socket's path.
func systemError(err error) error {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number
	}
	return err
}
