package plugins

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
)

// certificateAlerts are the alerts with which a server ends a TLS handshake because of the client's certificate
// (RFC 8446, 6.2): bad, unsupported, revoked, expired, unknown, of an unknown CA, denied, missing.
var certificateAlerts = [...]tls.AlertError{42, 43, 44, 45, 46, 48, 49, 116}

// refusedCertificate reports whether a server refused the client's TLS certificate, and with which alert. This is a
// refusal of the credential, like invalid_client over HTTP.
func refusedCertificate(err error) (alert string, refused bool) {
	var remote *net.OpError
	if !errors.As(err, &remote) || remote.Op != "remote error" {
		return "", false
	}
	for _, known := range certificateAlerts {
		if remote.Err.Error() == known.Error() {
			return strings.TrimPrefix(known.Error(), "tls: "), true
		}
	}
	return "", false
}
