package plugins

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/credagent/credagent/plugins/providerpb"
)

// selfSigned makes a certificate for a client, or for a server on loopback.
func selfSigned(t *testing.T, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// showing presents whatever certificate the pointer leads to.
func showing(certificate **tls.Certificate) fake {
	return fake{authenticate: func(r *Request) error {
		r.TLSCertificate = *certificate
		return nil
	}}
}

// peers is a TLS server that answers with the name in the client's certificate, and knows which of
// its connections are open.
type peers struct {
	*httptest.Server
	mu   sync.Mutex
	open map[net.Conn]bool
	all  int
}

func servePeers(t *testing.T, version uint16) *peers {
	t.Helper()
	p := &peers{open: map[net.Conn]bool{}}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	p.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: version, MaxVersion: version}
	p.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch state {
		case http.StateNew:
			p.open[conn] = true
			p.all++
		case http.StateClosed:
			delete(p.open, conn)
		}
	}
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

func (p *peers) asking() *providerpb.ExchangeRequest {
	in := asking(p.URL)
	in.TrustRoots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	return in
}

func (p *peers) counts() (open, all int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open), p.all
}

// awaitOpen waits until the server has so many open connections.
func (p *peers) awaitOpen(t *testing.T, want int) {
	t.Helper()
	deadline, tick := time.After(10*time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for open, _ := p.counts(); open != want; open, _ = p.counts() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d connections are open, want %d", open, want)
		}
	}
}

// A connection is authenticated by the certificate that it was made with, so a rotated one gets a
// connection of its own with the very next request, and the old one's is closed. The same one
// keeps its connection.
func TestRotatedCertificateHasItsOwnConnection(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			p := servePeers(t, version)
			var certificate *tls.Certificate
			s := &server{provider: showing(&certificate)}
			const rotations = 20
			for i := range rotations {
				name := fmt.Sprintf("certificate %d", i)
				certificate = selfSigned(t, name)
				for range 2 {
					if body := string(mustAnswer(t, exchange(t, s, p.asking())).GetBody()); body != name {
						t.Fatalf("the server was shown %q, want %q", body, name)
					}
				}
				p.awaitOpen(t, 1)
				if len(s.exchanger.transports) != 1 {
					t.Fatalf("%d kinds of connection are kept, want one", len(s.exchanger.transports))
				}
			}
			if _, all := p.counts(); all != rotations {
				t.Errorf("%d connections for %d certificates", all, rotations)
			}
		})
	}
}

// Clients share a process, but no connection over which one of them has presented a certificate. Those of
// a client that asks no more are forgotten, while the others go on.
func TestClientsCertificatesAreNotMixed(t *testing.T) {
	p := servePeers(t, tls.VersionTLS13)
	names := []string{"a", "b", "c"}
	certificates := map[string]*tls.Certificate{}
	for _, name := range names {
		certificates[name] = selfSigned(t, name)
	}
	s := &server{provider: fake{authenticate: func(r *Request) error {
		r.TLSCertificate = certificates[r.ClientID]
		return nil
	}}}
	ask := func(name string) {
		in := p.asking()
		in.ClientId = name
		reply, err := s.Exchange(context.Background(), in)
		if body := string(reply.GetAnswer().GetBody()); err != nil || body != name {
			t.Errorf("the server was shown %q by client %q: %v", body, name, err)
		}
	}
	var asking sync.WaitGroup
	for range 20 {
		for _, name := range names {
			asking.Go(func() { ask(name) })
		}
	}
	asking.Wait()
	if n := len(s.exchanger.transports); n != len(names) {
		t.Errorf("%d kinds of connection are kept for %d clients", n, len(names))
	}
	for key, kept := range s.exchanger.transports {
		if key.client != clientOf(&providerpb.ExchangeRequest{ClientId: "a", Config: p.asking().GetConfig()}) {
			kept.used = kept.used.Add(-keptUnused - time.Second)
		}
	}
	ask("a")
	if n := len(s.exchanger.transports); n != 1 {
		t.Errorf("%d kinds of connection are kept, two of them unused", n)
	}
}

// Old connections without a certificate stay: they are no less authenticated than they were.
func TestCertificateLeavesOtherConnections(t *testing.T) {
	s := &server{provider: fake{}}
	plain, _ := counting(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	p := servePeers(t, tls.VersionTLS13)
	in := asking(plain.URL)
	in.TrustRoots = p.asking().GetTrustRoots()
	mustAnswer(t, exchange(t, s, in))
	certificate := selfSigned(t, "a")
	s.provider = showing(&certificate)
	mustAnswer(t, exchange(t, s, p.asking()))
	if len(s.exchanger.transports) != 2 {
		t.Errorf("%d kinds of connection are kept, want two", len(s.exchanger.transports))
	}
}

// refusing is a server that ends every handshake because of the client's certificate. It reads on
// until the client is gone: a reset could overtake its alert.
func refusing(t *testing.T, config *tls.Config) *providerpb.ExchangeRequest {
	t.Helper()
	identity := selfSigned(t, "server")
	config.Certificates = []tls.Certificate{*identity}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				_ = tls.Server(conn, config).HandshakeContext(context.Background())
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	in := asking("https://" + listener.Addr().String())
	in.TrustRoots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: identity.Certificate[0]})
	return in
}

func TestRefusedCertificateIsACredentialFailure(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			// It trusts no client, so its alert is "bad certificate" or "unknown certificate authority".
			in := refusing(t, &tls.Config{
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(), MinVersion: version, MaxVersion: version,
			})
			certificate := selfSigned(t, "a")
			message := mustFail(t, exchangeWith(t, showing(&certificate), in), providerpb.Failure_KIND_REFUSED)
			if !strings.HasPrefix(message, "the server ended the TLS handshake because of the client's certificate: ") {
				t.Errorf("message %q", message)
			}
		})
	}
}

func TestRefusedCertificate(t *testing.T) {
	remote := func(alert tls.AlertError) error { return &net.OpError{Op: "remote error", Err: alert} }
	for want, err := range map[string]error{
		"expired certificate":  remote(45),
		"certificate required": fmt.Errorf("requesting: %w", remote(116)),
		"":                     remote(40), // handshake failure: it may be about anything
	} {
		if got, refused := refusedCertificate(err); got != want || refused != (want != "") {
			t.Errorf("%v is refusal %q, %v, want %q", err, got, refused, want)
		}
	}
	if got, refused := refusedCertificate(&net.OpError{Op: "local error", Err: tls.AlertError(42)}); refused {
		t.Errorf("the client's own alert is the refusal %q", got)
	}
}
