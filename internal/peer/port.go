package peer

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// listening is the state of a socket that accepts connections, in the kernel's tables.
const listening = "0A"

// unowned is the inode, in the kernel's tables, of a socket that no process holds any more. The kernel then
// gives its user as 0, whoever created it.
const unowned = "0"

// Listener is a socket that listens on a port of this host, with its owner.
type Listener struct {
	Address netip.AddrPort
	UID     int
}

// parseListeners reads the kernel's table of TCP sockets (proc_net_tcp(5)). An invalid line is skipped.
func parseListeners(table io.Reader) []Listener {
	var found []Listener
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 || fields[3] != listening {
			continue
		}
		address, ok := parseAddress(fields[1])
		uid, err := strconv.ParseUint(fields[7], 10, 32)
		if ok && err == nil {
			found = append(found, Listener{address, int(uid)})
		}
	}
	return found
}

// parseOwner finds the user of the socket at one end of a connection in the kernel's table. It finds none if the
// socket is not there, or if no process holds it any more.
func parseOwner(table io.Reader, local, remote netip.AddrPort) (uid int, found bool) {
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[9] == unowned || !isAt(fields[1], local) || !isAt(fields[2], remote) {
			continue
		}
		number, err := strconv.ParseUint(fields[7], 10, 32)
		return int(number), err == nil
	}
	return 0, false
}

// isAt reports whether an address as the kernel writes it is the given one, whichever family the socket has.
func isAt(text string, address netip.AddrPort) bool {
	parsed, ok := parseAddress(text)
	return ok && parsed == netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
}

// parseAddress reads an address as the kernel writes it: words in the host's byte order, in
// hexadecimal, and the port.
func parseAddress(text string) (netip.AddrPort, bool) {
	words, port, found := strings.Cut(text, ":")
	raw, err := hex.DecodeString(words)
	number, badPort := strconv.ParseUint(port, 16, 16)
	if !found || err != nil || badPort != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	address, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(address.Unmap(), uint16(number)), ok
}

// at returns the listeners that may answer at an address: those on its port at that address or at any address.
func at(all []Listener, address netip.AddrPort) []Listener {
	var found []Listener
	for _, l := range all {
		same := l.Address.Addr() == address.Addr().Unmap() || l.Address.Addr().IsUnspecified() || address.Addr().IsUnspecified()
		if l.Address.Port() == address.Port() && same {
			found = append(found, l)
		}
	}
	return found
}
