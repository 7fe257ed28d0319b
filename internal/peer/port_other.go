//go:build !linux

package peer

import (
	"errors"
	"net/netip"
)

// At returns an error: it works only on Linux.
func At(netip.AddrPort) ([]Listener, error) {
	return nil, errors.New("asking who listens: that needs Linux")
}
