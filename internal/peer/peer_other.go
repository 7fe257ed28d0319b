//go:build !linux

package peer

import (
	"errors"
	"net"
)

// Of returns an error: only Linux is asked.
func Of(*net.UnixConn) (Peer, error) {
	return Peer{}, errors.New("asking who connected: that needs Linux")
}
