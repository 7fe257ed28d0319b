package peer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
)

// At returns the listeners at an address of this host, as reported by the kernel; none if there are none.
func At(address netip.AddrPort) ([]Listener, error) {
	var all []Listener
	err := eachTable(func(table io.Reader) { all = append(all, parseListeners(table)...) })
	if err != nil {
		return nil, fmt.Errorf("asking who listens at %s: %w", address, err)
	}
	return at(all, address), nil
}

// UserOf returns the user that owns the socket at the other end of a connection. It fails if that end is not on this
// host, or was closed. It reads the table of all sockets.
func UserOf(conn *net.TCPConn) (int, error) {
	here, ok := conn.LocalAddr().(*net.TCPAddr)
	there, known := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || !known {
		return 0, errors.New("asking who connected: the connection is closed")
	}
	uid, found := 0, false
	err := eachTable(func(table io.Reader) {
		if !found {
			uid, found = parseOwner(table, there.AddrPort(), here.AddrPort())
		}
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("asking who connected: %w", err)
	case !found:
		return 0, fmt.Errorf("asking who connected: the kernel reports no owner of %s", there)
	}
	return uid, nil
}

// eachTable passes the kernel's tables of TCP sockets, for IPv4 and for IPv6, to show. It reads those of this process:
// with systemd's ProcSubset=pid there is no /proc/net.
func eachTable(show func(io.Reader)) error {
	for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		table, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) && name == "/proc/self/net/tcp6" {
			continue // a host without IPv6
		}
		if err != nil {
			return err
		}
		show(table)
		_ = table.Close()
	}
	return nil
}
