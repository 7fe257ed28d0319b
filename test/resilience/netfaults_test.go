//go:build linux

package resilience_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
)

// front is a listener before the authorization server whose certificate can be replaced, and which
// can be slow with its headers.
type front struct {
	*httptest.Server
	certificate atomic.Pointer[tls.Certificate]
	crawls      atomic.Bool
}

// authority is a CA.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	return authority{parsed, key}
}

// issue makes a certificate for a host that ends after life, which may be below zero.
func (a authority) issue(t *testing.T, host string, life time.Duration) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life), DNSNames: []string{host},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	must(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newFront(t *testing.T, handler http.Handler, certificate *tls.Certificate) *front {
	t.Helper()
	f := &front{}
	f.certificate.Store(certificate)
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.crawls.Load() {
			crawl(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	f.Config.ErrorLog = quiet()
	f.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*f.certificate.Load()}}, nil
	}}
	f.StartTLS()
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// present shows another certificate from the next connection on, which comes at once.
func (f *front) present(certificate *tls.Certificate) {
	f.certificate.Store(certificate)
	f.CloseClientConnections()
}

// crawl sends its headers one byte at a time until nobody reads any more.
func crawl(w http.ResponseWriter, r *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	header := "HTTP/1.1 200 OK\r\nX-Filler: " + strings.Repeat("x", 1<<16)
	for i := range header {
		if _, err := conn.Write([]byte{header[i]}); err != nil {
			return
		}
		<-tick.C
	}
}

// netFault is something that happens between a client and its server.
type netFault struct {
	breaks, mends func()
	log           string
}

// network is one agent with a client for each fault.
type network struct {
	*host
	faults  map[string]netFault
	clients strings.Builder
	rest    [2]strings.Builder // tokens and sinks
}

const resolvedName = "login.test"

// add adds a client, with a token and a sink of its own, for a fault.
func (n *network) add(name, tokenURL string, fault netFault) {
	n.faults[name] = fault
	n.clients.WriteString(n.clientLine(name, tokenURL, fmt.Sprintf("request_timeout: 2s, ca_file: %s,", n.path("ca.pem"))))
	fmt.Fprintf(&n.rest[0], "  %s: { client: %s, scopes: [%s] }\n", name, name, name)
	fmt.Fprintf(&n.rest[1], "  - { type: file, token: %s, path: %s }\n", name, n.path("sinks/"+name))
}

// injected is a fault that the server itself makes.
func (n *network) injected(t *testing.T, name, fault, log string) {
	t.Helper()
	parsed, err := devserver.ParseFault(fault)
	must(t, err)
	parsed.Client = name
	n.add(name, n.server.TokenURL(), netFault{
		breaks: func() { must(t, n.server.Inject(parsed)) },
		mends:  n.server.Clear,
		log:    log,
	})
}

// secured is a fault of a front that shows another certificate meanwhile.
func (n *network) secured(t *testing.T, name string, good, bad *tls.Certificate, log string) {
	t.Helper()
	f := newFront(t, n.server.Handler(), good)
	n.add(name, f.URL+"/token", netFault{
		breaks: func() { f.present(bad) }, mends: func() { f.present(good) }, log: log,
	})
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	names := []string{"wrong-ca", "expired-certificate", "wrong-host", "slow-headers", "slow-body", "reset", "cut", "stall", "no-name"}
	n := &network{host: newHost(t, devserver.Options{TTL: faultLife, RefreshIn: faultEvery}, names...), faults: map[string]netFault{}}
	ca := newAuthority(t)
	n.write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.certificate.Raw})))
	good := ca.issue(t, "127.0.0.1", time.Hour)
	n.secured(t, "wrong-ca", good, newAuthority(t).issue(t, "127.0.0.1", time.Hour), "certificate signed by unknown authority")
	n.secured(t, "expired-certificate", good, ca.issue(t, "127.0.0.1", -time.Minute), "certificate has expired")
	n.secured(t, "wrong-host", good, ca.issue(t, "other.example.com", time.Hour), "certificate for 127.0.0.1")
	crawling := newFront(t, n.server.Handler(), good)
	n.add("slow-headers", crawling.URL+"/token", netFault{
		breaks: func() { crawling.crawls.Store(true) }, mends: func() { crawling.crawls.Store(false) }, log: "did not answer in time",
	})
	n.injected(t, "slow-body", "drip=100ms", "did not answer in time")
	n.injected(t, "reset", "reset", "connection reset by peer")
	n.injected(t, "cut", "cut", "ended before the answer was whole")
	n.injected(t, "stall", "stall", "did not answer in time")
	n.addName(t, ca)
	return n
}

// addName adds a client whose server has a name that can be lost. The agent's own view of
// /etc/hosts and /etc/resolv.conf takes a mount that nobody else sees.
func (n *network) addName(t *testing.T, ca authority) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Run("no-name", needRoot)
		return
	}
	f := newFront(t, n.server.Handler(), ca.issue(t, resolvedName, time.Hour))
	f.Config.SetKeepAlivesEnabled(false) // every request looks the name up
	hosts := func(names string) { n.write(t, "hosts", "127.0.0.1 localhost"+names+"\n") }
	hosts(" " + resolvedName)
	n.write(t, "resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n") // where nobody answers
	n.add("no-name", strings.Replace(f.URL, "127.0.0.1", resolvedName, 1)+"/token", netFault{
		breaks: func() { hosts("") },
		mends:  func() { hosts(" " + resolvedName) },
		log:    "lookup " + resolvedName,
	})
}

// startNamed starts the agent, as root with its own view of what names mean.
func (n *network) startNamed(t *testing.T) *process {
	t.Helper()
	if os.Geteuid() != 0 {
		return n.start(t)
	}
	script := `mount --bind "$1/hosts" /etc/hosts && mount --bind "$1/resolv.conf" /etc/resolv.conf && exec "$1/credagent" run -c "$1/credagent.yaml"`
	cmd := exec.Command("sh", "-c", script, "sh", n.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return n.launch(t, cmd)
}

// TestNetworkFaults has all of them happen at once, each to a client of its own.
func TestNetworkFaults(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.write(t, "credagent.yaml", n.preamble()+"clients:\n"+n.clients.String()+"tokens:\n"+n.rest[0].String()+"sinks:\n"+n.rest[1].String())
	agent := n.startNamed(t)
	n.ready(t, agent)
	var sinks []watched
	before := map[string]string{}
	for name, fault := range n.faults {
		fault.breaks()
		sinks = append(sinks, watched{n.path("sinks/" + name), rawTokens})
	}
	r := startReaders(t, 1, sinks, n.server.Valid)
	for name, fault := range n.faults {
		t.Run(name, func(t *testing.T) {
			until(t, "the log tells", func() bool {
				return agent.Log.Count(`"token request failed"`, `"level":"WARN"`, `"client":"`+name+`"`, `"class":"transient"`, fault.log, `"retry_in"`) > 0
			})
			before[name] = n.read(t, "sinks/"+name)
		})
	}
	for name, fault := range n.faults {
		if n.read(t, "sinks/"+name) != before[name] {
			t.Errorf("%s: the old token did not stay", name)
		}
		fault.mends()
	}
	for name := range n.faults {
		t.Run(name+" mended", func(t *testing.T) {
			until(t, "a new token is in the file", func() bool { return n.read(t, "sinks/"+name) != before[name] })
			until(t, "the log tells", func() bool { return agent.Log.Count(`"token requests succeed again"`, `"client":"`+name+`"`) > 0 })
		})
	}
	r.end()
	if n.server.RetryAfterViolations() > 0 {
		t.Error("a Retry-After was not kept")
	}
	t.Logf("%d reads, %d of them torn, missing or expired", r.reads.Load(), r.bad.Load())
}
