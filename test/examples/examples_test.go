// Package examples_test holds the project's documents to the truth: every example gets a token,
// every block of YAML is a valid configuration, every command shown runs, and every table of keys,
// variables, metrics and numbers is compared with the code. It starts the real program, which is
// built once; it is not for testing the program itself.
package examples_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/agentprocess"
	"github.com/credagent/credagent/testkit/leaktest"
)

const (
	root     = "../.."
	patience = time.Minute
	canary   = "canary-secret-5d1f0b"
)

// program is the built binary. It is set before any test runs and not changed after.
var program string

func TestMain(m *testing.M) {
	os.Exit(agentprocess.Main(&program, func() int {
		if err := buildProvider(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return leaktest.Main(m)
	}))
}

// environment is what the program sees: what it needs to run, and nothing that configures it.
func environment(more ...string) []string {
	path := filepath.Dir(program) + string(os.PathListSeparator) + os.Getenv("PATH")
	return append([]string{"PATH=" + path, "TMPDIR=" + os.TempDir()}, more...)
}

// run runs the program and fails the test unless it exits with the status wanted.
func run(t *testing.T, want int, env []string, args ...string) (stdout, stderr string) {
	t.Helper()
	return execute(t, want, env, exec.CommandContext(t.Context(), program, args...))
}

func execute(t *testing.T, want int, env []string, cmd *exec.Cmd) (stdout, stderr string) {
	t.Helper()
	var out, problems bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &problems
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("running %v: %v", cmd.Args, err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("%v exits with %d, want %d\n%s%s", cmd.Args, got, want, &out, &problems)
	}
	return out.String(), problems.String()
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// place stands in for what an example names: the authorization server, the credentials, and the
// directory of the sinks.
type place struct {
	server      *devserver.Server
	credentials string
	sinks       string
}

// newPlace starts a server at which the examples' clients are registered.
func newPlace(t *testing.T) place {
	t.Helper()
	return newPlaceOf(t, time.Hour)
}

// newPlaceOf is newPlace with tokens of another life.
func newPlaceOf(t *testing.T, life time.Duration) place {
	t.Helper()
	p := place{credentials: t.TempDir(), sinks: t.TempDir()}
	certPEM, keyPEM, certificate, err := devserver.NewCertificate("payments", devserver.KeyRSA, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.credentials, "payments.pem"), string(certPEM))
	write(t, filepath.Join(p.credentials, "payments.key"), string(keyPEM))
	write(t, filepath.Join(p.credentials, "orders.secret"), canary+"\n")
	p.server, err = devserver.New(devserver.Options{TTL: life, Clients: []devserver.Client{
		{ID: "6731de76-14a6-49ae-97bc-6eba6914391e", Certificates: []*x509.Certificate{certificate}},
		{ID: "orders", Secret: secret.New(canary)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.server.Close() })
	return p
}

// adapt puts the place's own names into an example.
func (p place) adapt(t *testing.T, example string) string {
	t.Helper()
	replacements := []string{
		"https://login.example.com", p.server.URL(),
		"/etc/credagent", p.credentials,
		"/run/credagent", p.sinks,
		"tenant: contoso.onmicrosoft.com", "{ tenant: contoso.onmicrosoft.com, authority: \"" + p.server.URL() + "\" }",
		"entra:\n      ", "entra: ",
	}
	adapted := strings.NewReplacer(replacements...).Replace(example)
	if strings.Contains(adapted, "example.com") {
		t.Fatalf("the example names a server that the test does not know:\n%s", example)
	}
	return adapted
}

func (p place) wantToken(t *testing.T, accessToken string) {
	t.Helper()
	if !p.server.Valid(accessToken) {
		t.Errorf("what the sink holds is no token of the server")
	}
}

func (p place) sink(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.sinks, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestEntraCertificate(t *testing.T) {
	p := newPlace(t)
	config := filepath.Join(t.TempDir(), "credagent.yaml")
	write(t, config, "listen: \"\"\n"+p.adapt(t, read(t, "examples/entra-certificate/credagent.yaml")))
	run(t, 0, environment(), "once", "-c", config)
	p.wantToken(t, p.sink(t, "graph.token"))
	header, isHeader := strings.CutPrefix(p.sink(t, "graph.header"), "Authorization: Bearer ")
	if !isHeader {
		t.Error("graph.header is not an Authorization header")
	}
	p.wantToken(t, strings.TrimSuffix(header, "\n"))
}

func TestGenericSecretEnv(t *testing.T) {
	p := newPlace(t)
	config := filepath.Join(t.TempDir(), "credagent.yaml")
	write(t, config, "listen: \"\"\n"+p.adapt(t, read(t, "examples/generic-secret-env/credagent.yaml")))
	_, log := run(t, 0, environment(), "once", "-c", config)
	if strings.Contains(log, canary) {
		t.Error("the log holds the client secret")
	}
	script := `set -a; . "$1"; printf %s "$ORDERS_TOKEN"`
	got, _ := execute(t, 0, environment(), exec.CommandContext(t.Context(), "sh", "-c", script, "sh", filepath.Join(p.sinks, "orders.env")))
	p.wantToken(t, got)
}

func TestEnvironmentOnly(t *testing.T) {
	p := newPlace(t)
	lines := strings.Fields(p.adapt(t, read(t, "examples/environment-only/credagent.env")))
	run(t, 0, environment(append(lines, "CREDAGENT_LISTEN=")...), "once")
	got := p.sink(t, "orders.json")
	if !strings.Contains(got, `"token":"default"`) {
		t.Errorf("orders.json is not the token's JSON form")
	}
}

// TestExamplesAreListed keeps the list of examples and the directories the same.
func TestExamplesAreListed(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join(root, "examples"))
	if err != nil {
		t.Fatal(err)
	}
	list := read(t, "examples/README.md")
	for _, entry := range entries {
		if entry.IsDir() && !strings.Contains(list, "("+entry.Name()+"/README.md)") {
			t.Errorf("examples/README.md does not list %s", entry.Name())
		}
	}
}
