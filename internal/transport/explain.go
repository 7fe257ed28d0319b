package transport

import (
	"errors"
	"net"
	"strings"
)

// advice maps texts in connection errors to what to do about them, because Go's packages report these errors only as
// text.
var advice = [...]struct{ words, what string }{
	{"tls: no renegotiation", "the server renegotiates TLS after the request, as IIS does to ask for a client certificate, which credagent refuses because it is not safe (RFC 9325, 3.5); have the server ask for the certificate in the handshake, or offer TLS 1.3"},
	{"certificateRequestMsgTLS13", "the server asks for a client certificate after the handshake (RFC 8446, 4.6.2), which credagent does not offer; have it ask in the handshake"},
	{"tls: handshake failure", "the server shares no cipher suite with credagent, which speaks TLS 1.2 with ECDHE and AES-GCM or ChaCha20, and TLS 1.3, or it wants a client certificate; have these allowed at the server (for one that only has RSA key exchange, GODEBUG=tlsrsakex=1 in the agent's environment helps until then)"},
	{"tls: insufficient security level", "the server finds what credagent offers too weak; it speaks TLS 1.2 and 1.3 only, so look at the server's TLS settings"},
	{"tls: protocol version not supported", "the server speaks no TLS that credagent does, 1.2 or 1.3; older versions are forbidden (RFC 8996), so have TLS 1.2 allowed at the server"},
	{"server selected unsupported protocol version", "the server speaks no TLS that credagent does, 1.2 or 1.3; older versions are forbidden (RFC 8996), so have TLS 1.2 allowed at the server"},
	{"unconfigured cipher suite", "the server chose a cipher suite that was not offered; look at the server's TLS settings, or at what inspects TLS on the way"},
	{"does not look like a TLS handshake", "what answers there does not speak TLS: look at the port, and whether the URL is to begin with http"},
	{"tls: unrecognized name", "the server knows no certificate for this host name; look at the URL"},
	{"negative serial number", "the server's certificate has a negative serial number, which RFC 5280, 4.1.2.2 forbids; have it issued again, or set GODEBUG=x509negativeserial=1 in the agent's environment until then"},
	{"legacy Common Name", "the server's certificate names its host in no subject alternative name; have it issued again with one"},
	{"insecure algorithm", "the server's certificate, or one above it, is signed with SHA-1 or MD5, which is no proof any more; have it issued again"},
	{"expired or is not yet valid", "compare this host's clock with the dates, and have the certificate renewed if the clock is right"},
	{"RSA key smaller than 1024 bits", "the server's RSA key is too short to be safe; have its certificate issued again for a longer one"},
	{"RSA key larger than", "the server's RSA key is longer than Go's TLS allows; have its certificate issued again for one of 2048 to 8192 bits"},
	{"unknown authority", "if the server uses a private CA, name its certificate in ca_file"},
}

// Explain returns a connection error's text, and what to do about it, if known.
func Explain(err error) string {
	var about *ProxyError
	if errors.As(err, &about) {
		return about.Message
	}
	text := err.Error()
	var inNet *net.OpError
	if errors.As(err, &inNet) && inNet.Op == "proxyconnect" {
		text = "connecting to the proxy: " + inNet.Err.Error()
	}
	for _, a := range advice {
		if strings.Contains(text, a.words) {
			return text + "; " + a.what
		}
	}
	return text
}
