// Package loopback recognises hosts that never leave the machine.
package loopback

import (
	"net"
	"net/netip"
	"strings"
)

// IsHost reports whether host is localhost or an address of the loopback interface. An address with a zone is not:
// the machine decides what the zone means.
func IsHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Zone() == "" && address.Unmap().IsLoopback()
}

// IsHostPort is [IsHost] for host:port, as in a Host header or a listener's address. The port is optional.
func IsHostPort(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	return IsHost(host)
}
