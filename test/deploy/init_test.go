//go:build linux

package deploy_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/test/nspawn"
)

// The README's client, and where its server is.
const (
	entraHost   = "login.microsoftonline.com"
	entraClient = "6731de76-14a6-49ae-97bc-6eba6914391e"
)

// firstToken are the README's commands for a first token, block by block.
func firstToken(t *testing.T) []string {
	t.Helper()
	_, section, found := strings.Cut(read(t, root+"/README.md"), "\n## From nothing to a token\n")
	section, _, _ = strings.Cut(section, "\n## ")
	section, _, _ = strings.Cut(section, "\n### ")
	var commands []string
	for _, match := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		commands = append(commands, match[1])
	}
	if !found || len(commands) != 2 {
		t.Fatalf("the README has %d blocks of commands for a first token, want 2", len(commands))
	}
	return commands
}

// TestPackageFirstToken starts with an empty Debian and ends when another user has read the token. All
// that is done in the machine is what the README says; the network is such that Entra is in it.
func TestPackageFirstToken(t *testing.T) {
	needE2E(t)
	commands := firstToken(t)
	deb, _ := packages(t, versions[0])
	h := &host{Guest: nspawn.Boot(t), t: t}
	h.Run("systemd-sysusers", "--inline", "u app -")
	h.installEntra()
	h.install(withDpkg, map[string]string{versions[0]: deb}, versions[0])

	said := h.Shell(commands[0])
	t.Log(said)
	before := h.Shell("find /etc/credagent /run/credagent -printf '%p %u %m %T@\\n' | sort")
	h.Shell(commands[0])
	if after := h.Shell("find /etc/credagent /run/credagent -printf '%p %u %m %T@\\n' | sort"); after != before {
		t.Errorf("run again, init changes\n%s\nto\n%s", before, after)
	}
	for _, want := range []string{"/etc/credagent/entra.key credagent 600 ", "/etc/credagent/entra.pem root 644 ", "/etc/credagent/credagent.yaml root 644 ", "/run/credagent credagent 755 "} {
		if !strings.Contains(before, want) {
			t.Errorf("there is no %q in\n%s", want, before)
		}
	}
	if _, next, _ := strings.Cut(said, "Then:\n"); strings.ReplaceAll(next, "  ", "") != strings.TrimSpace(commands[1]) {
		t.Errorf("init names %q next, the README %q", next, commands[1])
	}

	block, _ := pem.Decode([]byte(read(t, h.Path("/etc/credagent/entra.pem"))))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	h.server.SetClient(devserver.Client{ID: entraClient, Certificates: []*x509.Certificate{certificate}}) // the portal's part

	lines := strings.Split(strings.TrimSpace(h.Shell(commands[1])), "\n")
	if token := lines[len(lines)-1]; !h.server.Valid(token) {
		t.Errorf("the application's user has read no valid token but %d bytes", len(token))
	}
	if out, err := h.Try("runuser", "-u", "nobody", "--", "cat", appToken); err == nil {
		t.Errorf("everybody can read the token: %d bytes", len(out))
	}
}

// installEntra puts the embedded server where the machine finds Entra, under a CA that it trusts.
func (h *host) installEntra() {
	h.t.Helper()
	server, err := devserver.New(devserver.Options{Listen: "127.0.0.1:443", URL: "https://" + entraHost, TLS: true, TTL: calm, Manner: "entra"})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.InNetwork(server.Start); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = server.Close() })
	h.server = server
	hosts, err := os.ReadFile(h.Path("/etc/hosts"))
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	h.Write("/etc/hosts", string(hosts)+"\n127.0.0.1 localhost "+entraHost+"\n", 0o644)
	h.Write("/etc/ssl/certs/ca-certificates.crt", string(server.CAPEM()), 0o644)
}
