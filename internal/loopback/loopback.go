// Package loopback recognises hosts that never leave the machine.
package loopback

import (
	"net"
	"net/netip"
	"strings"
)

// IsHost reports whether host is localhost or an address of the loopback interface. An address with
// a zone is none: what the zone means is up to the machine.
func IsHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Zone() == "" && address.Unmap().IsLoopback()
}

// IsHostPort is [IsHost] for host:port, as in a Host header or a listener's address. The port may be
// left out.
func IsHostPort(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	return IsHost(host)
}
