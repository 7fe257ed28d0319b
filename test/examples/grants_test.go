package examples_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

// grantExample is what an example of examples/grants needs of a server: one that plays the vendor's.
type grantExample struct {
	manner string
	// register has the server know the client; c is the certificate of the example's key.
	register func(t *testing.T, p place, c *x509.Certificate)
	token    string // the sink
}

var grantExamples = map[string]grantExample{
	"google": {"google", func(t *testing.T, p place, _ *x509.Certificate) {
		client, file, err := devserver.NewServiceAccount("orders@project.iam.gserviceaccount.com", p.server.TokenURL())
		if err != nil {
			t.Fatal(err)
		}
		p.server.SetClient(client)
		write(t, filepath.Join(p.credentials, "google.json"), string(file))
	}, "google.token"},
	"salesforce": {"salesforce", func(_ *testing.T, p place, c *x509.Certificate) {
		p.server.SetClient(devserver.Client{ID: "3MVG9example", Certificates: []*x509.Certificate{c}, Subjects: []string{"integration@example.com"}})
	}, "salesforce.token"},
	"docusign": {"docusign", func(_ *testing.T, p place, c *x509.Certificate) {
		p.server.SetClient(devserver.Client{ID: "7c2b8d7e-83c3-4940-af5e-cda8a50dd73f", PublicKeys: map[string]crypto.PublicKey{"": c.PublicKey},
			Scopes: []string{"signature", "impersonation"}, Subjects: []string{"1de5fb59-6bc0-4a4a-a1b4-2ad2a4a0a9b8"}})
	}, "docusign.token"},
	"gcp-federation": {"", func(t *testing.T, p place, c *x509.Certificate) {
		const audience = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/pool/providers/provider"
		registerSubject(t, p, devserver.Client{ID: audience}, filepath.Join(p.credentials, "gcp"))
	}, "google.token"},
	"dex": {"", func(t *testing.T, p place, _ *x509.Certificate) {
		registerSubject(t, p, devserver.Client{ID: "orders", Secret: secret.New(canary), Confidential: true}, filepath.Join(p.credentials, "ci.jwt"))
		write(t, filepath.Join(p.credentials, "orders.secret"), canary)
	}, "dex.token"},
	"keycloak": {"keycloak", func(t *testing.T, p place, _ *x509.Certificate) {
		registerSubject(t, p, devserver.Client{ID: "orders", Secret: secret.New(canary)}, filepath.Join(p.credentials, "subject.token"))
		write(t, filepath.Join(p.credentials, "orders.secret"), canary)
	}, "inventory.token"},
	"box": {"box", func(t *testing.T, p place, c *x509.Certificate) {
		p.server.SetClient(devserver.Client{ID: "abc123example", Secret: secret.New(canary), PublicKeys: map[string]crypto.PublicKey{"abcd1234": c.PublicKey}, Subjects: []string{"1234567"}})
		write(t, filepath.Join(p.credentials, "box.secret"), canary)
		write(t, filepath.Join(p.credentials, "box.passphrase"), "none, as the key of the test is not encrypted")
	}, "box.token"},
}

// TestGrantExamples has each example get a token from a server that plays the vendor's.
func TestGrantExamples(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join(root, "examples/grants"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		t.Run(entry.Name(), func(t *testing.T) {
			example, known := grantExamples[entry.Name()]
			if !known {
				t.Fatal("no test knows the server of this example")
			}
			p := place{server: mannered(t, devserver.Options{TTL: time.Hour, Manner: example.manner}), credentials: t.TempDir(), sinks: t.TempDir()}
			name := filepath.Join("examples/grants", entry.Name(), "credagent.yaml")
			original := filepath.Join(root, name)
			run(t, 0, environment(), "validate", "-c", original)
			example.register(t, p, keyOfExample(t, p, entry.Name()))
			endpoint := regexp.MustCompile(`((?:token_url|issuer): )https://[^/\s]+`)
			config := filepath.Join(p.credentials, "credagent.yaml")
			text := strings.NewReplacer("/etc/credagent", p.credentials, "/run/credagent", p.sinks, "/var/run/secrets/tokens", p.credentials).Replace(read(t, name))
			write(t, config, "listen: \"\"\n"+endpoint.ReplaceAllString(text, "${1}"+p.server.URL()))
			_, log := run(t, 0, environment(), "once", "-c", config, "--timeout", "30s")
			p.wantToken(t, p.sink(t, example.token))
			if strings.Contains(log, canary) {
				t.Error("the log shows a secret")
			}
		})
	}
}

// registerSubject registers a client with an issuer whose tokens it may exchange, and writes one.
func registerSubject(t *testing.T, p place, client devserver.Client, path string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	client.AssertionIssuers = []devserver.AssertionIssuer{{Issuer: "https://ci.example", Subject: "job", Audience: "pool", Key: key.Public()}}
	p.server.SetClient(client)
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	signed := part(`{"alg":"RS256"}`) + "." + part(fmt.Sprintf(`{"iss":"https://ci.example","sub":"job","aud":"pool","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, signed+"."+part(string(signature)))
}

// TestEntraAgentIdentity has an agent identity authenticate with its blueprint's token.
func TestEntraAgentIdentity(t *testing.T) {
	const agent = "4f2a9d10-0c6e-4a3b-9a77-2a1f0c5d8e11"
	p := newPlace(t)
	p.server.SetClient(devserver.Client{ID: agent})
	text := "listen: \"\"\n" + strings.ReplaceAll(read(t, "examples/entra-agent-identity/credagent.yaml"), "entra: { tenant: contoso.onmicrosoft.com }",
		"entra: { tenant: contoso.onmicrosoft.com, authority: \""+p.server.URL()+"\" }")
	text = strings.NewReplacer("/etc/credagent", p.credentials, "/run/credagent", p.sinks).Replace(text)
	config := filepath.Join(p.credentials, "credagent.yaml")
	write(t, config, text)
	run(t, 0, environment(), "validate", "-c", filepath.Join(root, "examples/entra-agent-identity/credagent.yaml"))
	run(t, 0, environment(), "once", "-c", config, "--token", "blueprint")
	run(t, 0, environment(), "once", "-c", config, "--token", "graph")
	p.wantToken(t, p.sink(t, "graph.token"))

	// A token that was asked for with another agent's name is not this one's.
	write(t, config, strings.Replace(text, "fmi_path: "+agent, "fmi_path: another", 1))
	run(t, 0, environment(), "once", "-c", config, "--token", "blueprint")
	_, log := run(t, 77, environment(), "once", "-c", config, "--token", "graph")
	if !strings.Contains(log, "AADSTS700213") {
		t.Errorf("the log does not name Entra's refusal:\n%s", log)
	}
}

// keyOfExample makes the key and the certificate that an example names by its own name.
func keyOfExample(t *testing.T, p place, name string) *x509.Certificate {
	t.Helper()
	certificate, key, parsed, err := devserver.NewCertificate(name, devserver.KeyRSA, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.credentials, name+".pem"), string(certificate))
	write(t, filepath.Join(p.credentials, name+".key"), string(key))
	return parsed
}
