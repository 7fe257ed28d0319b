package handshake

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
)

// Destination is where a provider's process may send requests, and how it may connect. The agent sends it over the
// pipe, which no other process holds: an attacker who has stolen the connection's key can call the process, but
// cannot make it send a secret to another server, through another proxy or with other trust roots. The origins of the
// first destination are final; later ones only add connections.
type Destination struct {
	Origins    []string `json:"origins"`
	Connection string   `json:"connection"` // what [Connection] returns
}

// Send writes a destination to the pipe, as one line of JSON.
func (d Destination) Send(w io.Writer) error {
	if err := json.NewEncoder(w).Encode(d); err != nil {
		return fmt.Errorf("sending where requests go: %w", err)
	}
	return nil
}

// ReceiveDestination reads the next destination from the pipe, whose keys have been read.
func ReceiveDestination(r *bufio.Reader) (Destination, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return Destination{}, fmt.Errorf("receiving where requests go: %w", err)
	}
	var d Destination
	if err := json.Unmarshal(line, &d); err != nil {
		return Destination{}, fmt.Errorf("receiving where requests go: %w", err)
	}
	return d, nil
}

// Connection names a way to connect by its extra trust roots and its proxy.
func Connection(roots []byte, proxy string) string {
	both := sha256.New()
	of := sha256.Sum256(roots)
	_, _ = both.Write(of[:])
	_, _ = io.WriteString(both, proxy)
	return hex.EncodeToString(both.Sum(nil))
}

// Origin returns the normalized origin of a URL (RFC 6454, 4): scheme, host and port.
func Origin(text string) (string, error) {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Hostname() == "" {
		return "", errors.New("it is not a URL with a host")
	}
	port := parsed.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(parsed.Scheme)]
	}
	return strings.ToLower(parsed.Scheme + "://" + net.JoinHostPort(parsed.Hostname(), port)), nil
}
