//go:build !linux

package api

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
)

// SocketFile is where the local token API is, and who may connect.
type SocketFile struct {
	Path  string
	Mode  fs.FileMode
	Group string
}

// Listen returns an error: without Linux nobody says who connects.
func (SocketFile) Listen(*slog.Logger) (net.Listener, error) {
	return nil, errors.New("the local token API needs Linux; leave socket out")
}
