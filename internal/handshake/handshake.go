// Package handshake has what the agent and a provider's process agree on before they communicate:
// go-plugin's magic cookie, the protocol versions, and the keys of their connection.
//
// The connection is mutually authenticated TLS 1.3 with keys that the agent creates for each start and passes to the
// child through an inherited pipe, so they appear in no environment, file or command line. It gives the guarantee of
// go-plugin's AutoMTLS without its P-521 keys, which cost more than the rest of a start. The pipe stays open as long
// as the agent lives: when it closes, the child knows that the agent is gone, however it died.
package handshake

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/hashicorp/go-plugin"
)

// ProtocolVersion is the newest provider protocol, and the only one so far. go-plugin negotiates
// the highest version that both sides list, so a later agent can keep serving version 1.
const ProtocolVersion = 1

// PluginName is the name under which go-plugin dispenses the provider service.
const PluginName = "provider"

// LifelineFD is the child's descriptor of the pipe that carries the keys and shows the agent's life.
const LifelineFD = 3

const serverName = "provider.credagent.invalid"

// Config returns go-plugin's handshake: it is not a secret, only a guard against running a provider by hand.
func Config() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{
		ProtocolVersion:  ProtocolVersion,
		MagicCookieKey:   "CREDAGENT_PROVIDER_COOKIE",
		MagicCookieValue: "d1c4f4a2-credential-provider",
	}
}

// Keys are both sides' keys for one start of a provider.
type Keys struct {
	Agent    Side
	Provider Side
}

// Side is one side's certificate and private key, and the only certificate it accepts, all DER.
type Side struct {
	Certificate []byte `json:"certificate"`
	PrivateKey  []byte `json:"private_key"` // PKCS#8
	Peer        []byte `json:"peer"`
	// Bound means that destinations follow on the pipe, each [Destination] before the first request to it. If the
	// agent does not set it, none follow.
	Bound bool `json:"bound,omitempty"`
}

// NewKeys makes the keys for one start.
func NewKeys() (Keys, error) {
	agent, err := newSide()
	if err != nil {
		return Keys{}, err
	}
	provider, err := newSide()
	if err != nil {
		return Keys{}, err
	}
	agent.Peer, provider.Peer = provider.Certificate, agent.Certificate
	provider.Bound = true
	return Keys{Agent: agent, Provider: provider}, nil
}

func newSide() (Side, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Side{}, fmt.Errorf("making a connection key: %w", err)
	}
	// A suspended machine or a stepped clock must not end the connection, which is within one host and lives for
	// minutes: only the exact certificate counts, not its dates.
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: serverName},
		DNSNames:              []string{serverName},
		NotBefore:             time.Unix(0, 0),
		NotAfter:              time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Side{}, fmt.Errorf("making a connection certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Side{}, fmt.Errorf("encoding a connection key: %w", err)
	}
	return Side{Certificate: certificate, PrivateKey: private}, nil
}

// TLSConfig returns the configuration of this side, as a client or as a server.
func (s Side) TLSConfig() (*tls.Config, error) {
	key, err := x509.ParsePKCS8PrivateKey(s.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("reading the connection key: %w", err)
	}
	peer, err := x509.ParseCertificate(s.Peer)
	if err != nil {
		return nil, fmt.Errorf("reading the peer's certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(peer)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{s.Certificate}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
		RootCAs:      pool,
		ServerName:   serverName,
		MinVersion:   tls.VersionTLS13,
	}, nil
}

// Send writes the provider's side to the pipe, as one line of JSON with base64 values.
func (k Keys) Send(w io.Writer) error {
	if err := json.NewEncoder(w).Encode(k.Provider); err != nil {
		return fmt.Errorf("sending the connection keys: %w", err)
	}
	return nil
}

// PipeBuffer is the size in bytes of the longest line on the pipe.
const PipeBuffer = 64 << 10

// Receive reads the provider's side from the pipe. What follows is for [ReceiveDestination].
func Receive(r *bufio.Reader) (Side, error) {
	line, err := r.ReadSlice('\n')
	var side Side
	if err == nil {
		err = json.Unmarshal(line, &side)
	}
	clear(line) // otherwise the private key would remain in the buffer
	if err != nil {
		return Side{}, fmt.Errorf("receiving the connection keys: %w", err)
	}
	return side, nil
}
