//go:build !linux

package api

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
)

// SocketFile describes the socket of the local token API, and who may connect.
type SocketFile struct {
	Path  string
	Mode  fs.FileMode
	Group string
}

// Listen returns an error: callers can only be identified on Linux.
func (SocketFile) Listen(*slog.Logger) (net.Listener, error) {
	return nil, errors.New("the local token API needs Linux; leave socket out")
}
