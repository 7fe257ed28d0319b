package devserver

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"
)

// KeyKind is the kind of a certificate's key.
type KeyKind string

// The kinds of keys.
const (
	KeyRSA     KeyKind = "rsa"     // 2048 bits
	KeyEC      KeyKind = "ec"      // P-256
	KeyEC384   KeyKind = "ec384"   // P-384
	KeyEd25519 KeyKind = "ed25519" // Ed25519
)

// clockSlack is how long before now a certificate begins, for clocks that are behind.
const clockSlack = time.Minute

// NewCertificate creates a self-signed certificate for a client, valid from a minute ago until life from now; a
// negative life creates an expired one. The key is PKCS#8.
func NewCertificate(commonName string, kind KeyKind, life time.Duration) (certPEM, keyPEM []byte, cert *x509.Certificate, err error) {
	key, err := newKey(kind)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("making a certificate for %q: %w", commonName, err)
	}
	template := newTemplate(commonName, life)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	cert, err = sign(template, template, key.Public(), key)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("making a certificate for %q: %w", commonName, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("making a certificate for %q: %w", commonName, err)
	}
	return encodeCert(cert), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), cert, nil
}

func newKey(kind KeyKind) (crypto.Signer, error) {
	switch kind {
	case KeyRSA:
		return rsa.GenerateKey(rand.Reader, 2048)
	case KeyEC:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case KeyEC384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case KeyEd25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("there is no key kind %q", kind)
}

func newTemplate(commonName string, life time.Duration) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(min(0, life) - clockSlack),
		NotAfter:              now.Add(life),
		BasicConstraintsValid: true,
	}
}

// sign leaves the serial number to x509, which picks a random one.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func encodeCert(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// identity is the server's TLS identity; the zero value means no TLS.
type identity struct {
	caPEM  []byte
	config *tls.Config
}

const identityLife = 10 * 365 * 24 * time.Hour

func newIdentity(options Options) (identity, error) {
	if !options.TLS {
		return identity{}, nil
	}
	caKey, err := newKey(KeyEC)
	if err != nil {
		return identity{}, fmt.Errorf("making the server's CA: %w", err)
	}
	template := newTemplate("credagent devserver CA", identityLife)
	template.IsCA = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	ca, err := sign(template, template, caKey.Public(), caKey)
	if err != nil {
		return identity{}, fmt.Errorf("making the server's CA: %w", err)
	}
	leaf, err := newServerCert(ca, caKey, options.hosts())
	if err != nil {
		return identity{}, fmt.Errorf("making the server's certificate: %w", err)
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{leaf},
		// A client may present a certificate (RFC 8705); the token endpoint, not the handshake, judges it.
		ClientAuth: tls.RequestClientCert,
		// Breaking a connection on command needs one that carries a single request.
		NextProtos: []string{"http/1.1"},
	}
	return identity{caPEM: encodeCert(ca), config: config}, nil
}

func newServerCert(ca *x509.Certificate, caKey crypto.Signer, hosts []string) (tls.Certificate, error) {
	key, err := newKey(KeyEC)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := newTemplate("credagent devserver", identityLife)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	cert, err := sign(template, ca, key.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw, ca.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// hosts returns the names under which clients may reach the server.
func (o Options) hosts() []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	listen, _, err := net.SplitHostPort(o.Listen)
	if err == nil {
		hosts = append(hosts, listen)
	}
	if base, err := url.Parse(o.URL); err == nil {
		hosts = append(hosts, base.Hostname())
	}
	slices.Sort(hosts)
	return slices.DeleteFunc(slices.Compact(hosts), func(host string) bool { return host == "" })
}
