package pkcs11cred

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/testkit/agentprocess"
	"github.com/credagent/credagent/testkit/oidctest"
)

// patience bounds every wait for the programs.
const patience = time.Minute

// programs are credagent and the provider, as they are installed.
type programs struct{ credagent, dir, digest string }

// directory is for the built programs. It is set before any test runs and not changed after.
var directory string

func TestMain(m *testing.M) {
	os.Exit(testIn(m))
}

func testIn(m *testing.M) int {
	dir, err := os.MkdirTemp("", "credagent-pkcs11cred-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	directory = dir
	return m.Run()
}

// installed builds the programs, once.
var installed = sync.OnceValues(func() (programs, error) {
	p := programs{credagent: filepath.Join(directory, "credagent"), dir: directory}
	provider := filepath.Join(directory, "credagent-provider-pkcs11cred")
	if err := agentprocess.Build(".", "./cmd/credagent", p.credagent); err != nil {
		return p, err
	}
	cmd := exec.Command("go", "build", "-o", provider, "./credagent-provider-pkcs11cred") // with cgo
	if out, err := cmd.CombinedOutput(); err != nil {
		return p, fmt.Errorf("building the provider: %w\n%s", err, out)
	}
	content, err := os.ReadFile(provider)
	p.digest = fmt.Sprintf("%x", sha256.Sum256(content))
	return p, err
})

func install(t *testing.T) programs {
	t.Helper()
	p, err := installed()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs credagent until it ends by itself, or ctx does.
func (p programs) run(ctx context.Context, t *testing.T, args ...string) (status int, log string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, p.credagent, args...)
	cmd.Stderr = &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
		t.Fatal(err)
	}
	for _, secret := range []string{pin, soPIN, wrongPIN} {
		if strings.Contains(stderr.String(), secret) {
			t.Error("the log shows a PIN")
		}
	}
	return cmd.ProcessState.ExitCode(), stderr.String()
}

// client is what is particular about a client's configuration.
type client struct{ endpoint, key, environment string }

// configure writes a configuration of a token and a sink for each client.
func (p programs) configure(t *testing.T, h *hsm, clients map[string]client) string {
	t.Helper()
	var all, tokens, sinks strings.Builder
	for name, c := range clients {
		fmt.Fprintf(&all, "  %s:\n    { client_id: %s, %s, credential: { provider: pkcs11cred, config: { %s, environment: { %s }, token_label: hsm, pin_file: %s, pin_guard_dir: %s } } }\n",
			name, name, c.endpoint, c.key, c.environment, h.path("pin"), h.dir)
		fmt.Fprintf(&tokens, "  %s: { client: %s, scopes: [read] }\n", name, name)
		fmt.Fprintf(&sinks, "  - { type: file, token: %s, path: %s }\n", name, h.path(name+".token"))
	}
	config := h.path("credagent.yaml")
	write(t, config, fmt.Sprintf("listen: \"\"\nlog: { level: debug }\nplugins: { dirs: [%s], sha256: { pkcs11cred: %s }, idle_timeout: 1s }\nclients:\n%stokens:\n%ssinks:\n%s",
		p.dir, p.digest, &all, &tokens, &sinks))
	return config
}

// TestOnce gets a token with each kind of key on a token, by assertion and by TLS, from a certified
// authorization server.
func TestOnce(t *testing.T) {
	h := newHSM(t, "rsa", "ec", "ec384", "ed25519")
	provider, _ := h.provider(t)
	algorithms := map[string]string{"rsa": "PS256", "ec": "ES256", "ec384": "ES384", "ed25519": "EdDSA"}
	var registered []oidctest.Client
	leaves := map[string]*x509.Certificate{}
	for key, alg := range algorithms {
		leaf := h.certify(t, provider, key, time.Hour)
		h.store(t, leaf, key, keys[key].id)
		bound := oidctest.SelfSignedTLSClientAuth("tls-"+key, leaf)
		bound.CertificateBound = true
		registered = append(registered, oidctest.PrivateKeyJWT("jwt-"+key, alg, leaf), bound)
		leaves[bound.ID] = leaf
	}
	server := oidctest.Start(t, registered, oidctest.WithMTLSAlias(), oidctest.WithTLS(tls.VersionTLS13))
	endpoint := fmt.Sprintf("issuer: %q, ca_file: %s", server.Issuer, server.CAFile)
	clients := map[string]client{}
	for key := range algorithms {
		jwt, tls := "jwt-"+key, "tls-"+key
		clients[jwt] = client{endpoint, fmt.Sprintf("module: %s, key_label: %s", h.module, key), h.copied(t, jwt)}
		clients[tls] = client{endpoint, fmt.Sprintf("module: %s, key_object_id: %q, auth_method: self_signed_tls_client_auth", h.module, keys[key].id), h.copied(t, tls)}
	}
	p := install(t)
	if status, log := p.run(t.Context(), t, "once", "-c", p.configure(t, h, clients), "--timeout", "60s"); status != 0 {
		t.Fatalf("once exited with %d: %s", status, log)
	}
	for name := range clients {
		token, err := os.ReadFile(h.path(name + ".token"))
		if err != nil {
			t.Fatal(err)
		}
		checkToken(t, server.Introspect(t, string(token)), name, leaves[name])
	}
	if requests := server.Requests(t); len(requests) != len(clients) {
		t.Errorf("%d requests for %d tokens", len(requests), len(clients))
	}
}

// copied makes a copy of the token for one client and returns the environment to find it in: SoftHSM
// empties a token's file before it locks and rewrites it, so it is not for several processes.
func (h *hsm) copied(t *testing.T, name string) (environment string) {
	t.Helper()
	tokens, conf := h.path("tokens-"+name), h.path(name+".conf")
	if err := os.CopyFS(tokens, os.DirFS(h.path("tokens"))); err != nil {
		t.Fatal(err)
	}
	write(t, conf, "directories.tokendir = "+tokens+"\n")
	return "SOFTHSM2_CONF: " + conf
}

// checkToken checks whose a token is and, where it was asked for over mutual TLS, that it is bound
// to the certificate (RFC 8705, 3.1).
func checkToken(t *testing.T, about map[string]any, client string, bound *x509.Certificate) {
	t.Helper()
	if about["active"] != true || about["client_id"] != client {
		t.Errorf("%s: the server says of the token on disk: %v", client, about)
	}
	confirmation, _ := about["cnf"].(map[string]any)
	if bound == nil {
		return
	}
	sum := sha256.Sum256(bound.Raw)
	if want := base64.RawURLEncoding.EncodeToString(sum[:]); confirmation["x5t#S256"] != want {
		t.Errorf("%s: the token is bound to %v, want %s", client, confirmation, want)
	}
}

// observed is a world with one client of the development server, whose provider reaches the HSM
// through OpenSC's spy, which writes down every call.
func observed(t *testing.T) (h *hsm, server *devserver.Server, config string, p programs) {
	t.Helper()
	spies, err := filepath.Glob("/usr/lib*/*/pkcs11-spy.so")
	if err != nil || len(spies) == 0 {
		t.Fatalf("OpenSC is missing: apt-get install opensc (%v)", err)
	}
	h = newHSM(t, "ec")
	provider, _ := h.provider(t)
	leaf := h.certify(t, provider, "ec", time.Hour)
	h.store(t, leaf, "ec", keys["ec"].id)
	server, err = devserver.New(devserver.Options{TLS: true, TTL: 10 * time.Second, Clients: []devserver.Client{
		{ID: "app", Certificates: []*x509.Certificate{leaf}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	write(t, h.path("ca.pem"), string(server.CAPEM()))
	p = install(t)
	environment := fmt.Sprintf("SOFTHSM2_CONF: %s, PKCS11SPY: %s, PKCS11SPY_OUTPUT: %s", h.conf, h.module, h.path("calls"))
	config = p.configure(t, h, map[string]client{"app": {
		fmt.Sprintf("token_url: %q, ca_file: %s", server.TokenURL(), h.path("ca.pem")),
		fmt.Sprintf("module: %s, key_label: ec", spies[0]), environment,
	}})
	return h, server, config, p
}

// calls counts the calls of a function that the spy saw.
func (h *hsm) calls(t *testing.T, function string) int {
	t.Helper()
	seen, err := os.ReadFile(h.path("calls"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(seen), ": "+function+"\n")
}

// A wrong PIN costs one of the token's tries, however often credagent is started.
func TestWrongPINOverManyProcesses(t *testing.T) {
	h, server, config, p := observed(t)
	write(t, h.path("pin"), wrongPIN)
	for range 3 {
		if status, log := p.run(t.Context(), t, "once", "-c", config, "--timeout", "60s"); status != 78 || !strings.Contains(log, "refused the PIN") {
			t.Fatalf("once with a wrong PIN exited with %d: %s", status, log)
		}
	}
	if tries := h.calls(t, "C_Login"); tries != 1 {
		t.Errorf("the wrong PIN was tried %d times", tries)
	}
	write(t, h.path("pin"), pin)
	if status, log := p.run(t.Context(), t, "once", "-c", config, "--timeout", "60s"); status != 0 {
		t.Fatalf("once with the right PIN exited with %d: %s", status, log)
	}
	if requests := server.Requests(); len(requests) != 1 || requests[0].Outcome != "issued" {
		t.Errorf("requests %+v", requests)
	}
}

// An idle provider's process ends, and with it its session; the next refresh starts another.
func TestIdleProviderEnds(t *testing.T) {
	h, server, config, p := observed(t)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	waited := make(chan error, 1)
	go func() {
		waited <- server.Wait(ctx, 2)
		stop()
	}()
	status, log := p.run(ctx, t, "run", "-c", config)
	if err := <-waited; err != nil || status != 0 {
		t.Fatalf("run exited with %d, %v: %s", status, err, log)
	}
	if strings.Count(log, "provider stopped, unused") < 1 || h.calls(t, "C_Initialize") != 2 || h.calls(t, "C_Login") != 2 || h.calls(t, "C_OpenSession") != 2 {
		t.Errorf("%d processes, %d logins, %d sessions: %s", h.calls(t, "C_Initialize"), h.calls(t, "C_Login"), h.calls(t, "C_OpenSession"), log)
	}
}
