//go:build !linux

package peer

import (
	"errors"
	"net"
)

// Of returns an error: it works only on Linux.
func Of(*net.UnixConn) (Peer, error) {
	return Peer{}, errors.New("asking who connected: that needs Linux")
}
