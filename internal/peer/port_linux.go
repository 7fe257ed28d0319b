package peer

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
)

// At returns the listeners at an address of this host, as reported by the kernel; none if there are none.
func At(address netip.AddrPort) ([]Listener, error) {
	var all []Listener
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) && name == "/proc/net/tcp6" {
			continue // a host without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("asking who listens at %s: %w", address, err)
		}
		all = append(all, parseListeners(table)...)
		_ = table.Close()
	}
	return at(all, address), nil
}
