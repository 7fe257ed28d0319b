//go:build !linux

package peer

import (
	"errors"
	"net"
	"net/netip"
)

// At returns an error: it works only on Linux.
func At(netip.AddrPort) ([]Listener, error) {
	return nil, errors.New("asking who listens: that needs Linux")
}

// UserOf returns an error: only Linux is asked.
func UserOf(*net.TCPConn) (int, error) {
	return 0, errors.New("asking who connected: that needs Linux")
}
