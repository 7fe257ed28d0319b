//go:build unix

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/oidctest"
)

// TestOIDCProvider runs `credagent once` against a certified authorization server, once with each
// way of client authentication, and has the server introspect every token that is on disk.
func TestOIDCProvider(t *testing.T) {
	dir := t.TempDir()
	secret := randomHex(t)
	rsa := writePair(t, dir, "rsa", devserver.KeyRSA)
	ec := writePair(t, dir, "ec", devserver.KeyEC)
	write(t, filepath.Join(dir, "secret"), []byte(secret))
	server := oidctest.Start(t, []oidctest.Client{
		oidctest.SecretBasic("basic", secret),
		oidctest.SecretPost("post", secret),
		oidctest.PrivateKeyJWT("ps256", "PS256", rsa),
		oidctest.PrivateKeyJWT("es256", "ES256", ec),
	}, oidctest.WithTTL(5*time.Minute))

	var cfg bytes.Buffer
	fmt.Fprintf(&cfg, "listen: \"\"\nclients:\n")
	clients := map[string]string{
		"basic": "secretcred, config: { secret_file: " + dir + "/secret }",
		"post":  "secretcred, config: { secret_file: " + dir + "/secret, auth_method: client_secret_post }",
		"ps256": "certcred, config: { certificate_file: " + dir + "/rsa.pem, private_key_file: " + dir + "/rsa.key }",
		"es256": "certcred, config: { certificate_file: " + dir + "/ec.pem, private_key_file: " + dir + "/ec.key }",
	}
	for name, credential := range clients {
		fmt.Fprintf(&cfg, "  %s: { issuer: %q, client_id: %s, ca_file: %s, credential: { provider: %s } }\n", name, server.Issuer, name, server.CAFile, credential)
	}
	fmt.Fprintf(&cfg, "tokens:\n")
	for name := range clients {
		fmt.Fprintf(&cfg, "  %s: { client: %s, scopes: [read] }\n", name, name)
	}
	fmt.Fprintf(&cfg, "sinks:\n")
	for name := range clients {
		fmt.Fprintf(&cfg, "  - { type: file, token: %s, path: %s/%s.token }\n", name, dir, name)
	}
	file := filepath.Join(dir, "credagent.yaml")
	write(t, file, cfg.Bytes())

	var stdout, stderr bytes.Buffer
	if code := runSelf(t, &stdout, &stderr, "once", "-c", file, "--timeout", "30s"); code != exitOK {
		t.Fatalf("once exited with %d: %s", code, &stderr)
	}
	for name := range clients {
		data, err := os.ReadFile(filepath.Join(dir, name+".token"))
		if err != nil {
			t.Fatal(err)
		}
		about := server.Introspect(t, string(data))
		if about["active"] != true || about["client_id"] != name {
			t.Errorf("%s: the server says of the token on disk: %v", name, about)
		}
	}
	if requests := server.Requests(t); len(requests) != len(clients) {
		t.Errorf("%d token requests for %d tokens", len(requests), len(clients))
	}
	if bytes.Contains(stderr.Bytes(), []byte(secret)) {
		t.Error("the log shows the client secret")
	}
}

func writePair(t *testing.T, dir, name string, kind devserver.KeyKind) any {
	t.Helper()
	certificate, key, parsed, err := devserver.NewCertificate(name, kind, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".pem"), certificate)
	write(t, filepath.Join(dir, name+".key"), key)
	return parsed
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func randomHex(t *testing.T) string {
	t.Helper()
	b := make([]byte, 20)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}
