//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

// broker is a running agent with an identity endpoint, and the server behind it.
type broker struct {
	dir      string
	server   *devserver.Server
	listen   string // of probes
	endpoint string
	log      *safeBuffer
	cmd      *exec.Cmd
}

// safeBuffer is a buffer that a process writes while a test reads.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// newBroker starts an agent with the tokens graph and vault, of which graph serves a resource. They
// live for an hour and are to be refreshed when refreshIn says.
func newBroker(t *testing.T, refreshIn time.Duration) *broker {
	t.Helper()
	b := &broker{dir: t.TempDir(), server: hourlyServer(t, refreshIn), listen: freeAddress(t), endpoint: freeAddress(t)}
	write(t, filepath.Join(b.dir, "secret"), []byte(canary))
	b.configure(t, "graph")
	b.start(t)
	return b
}

// hourlyServer starts an authorization server whose tokens live for an hour and are to be refreshed when
// refreshIn says.
func hourlyServer(t *testing.T, refreshIn time.Duration) *devserver.Server {
	t.Helper()
	server, err := devserver.New(devserver.Options{TTL: time.Hour, RefreshIn: refreshIn, Clients: []devserver.Client{{ID: "app", Secret: secret.New(canary)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// configure writes the configuration, with a token for the resource.
func (b *broker) configure(t *testing.T, token string) {
	t.Helper()
	write(t, filepath.Join(b.dir, "credagent.yaml"), fmt.Appendf(nil, `listen: %s
identity_endpoint:
  listen: %s
  header_file: %s/identity/header
  token_for: { "https://graph.microsoft.com": %s }
clients: { app: { token_url: %q, client_id: app, credential: { provider: secretcred, config: { secret_file: %[3]s/secret } } } }
tokens: { graph: { client: app, scopes: [graph] }, vault: { client: app, scopes: [vault] } }
sinks: [{ type: file, token: graph, path: %[3]s/graph }, { type: file, token: vault, path: %[3]s/vault }]
`, b.listen, b.endpoint, b.dir, token, b.server.TokenURL()))
}

func (b *broker) start(t *testing.T) {
	t.Helper()
	b.log = &safeBuffer{}
	b.cmd = exec.Command(os.Args[0], "run", "-c", filepath.Join(b.dir, "credagent.yaml"))
	b.cmd.Env = append(os.Environ(), selfVariable+"=1")
	b.cmd.Stderr = b.log
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b.cmd.ProcessState == nil {
			_ = b.cmd.Process.Kill()
			_ = b.cmd.Wait()
		}
	})
	b.await(t, "to be ready", func() bool {
		response, err := http.Get("http://" + b.listen + "/readyz")
		if err != nil {
			return false
		}
		return response.Body.Close() == nil && response.StatusCode == http.StatusOK
	})
}

// stop stops the agent and returns its log.
func (b *broker) stop(t *testing.T) string {
	t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Wait(); err != nil {
		t.Fatalf("the agent ends with %v\n%s", err, b.log)
	}
	return b.log.String()
}

func (b *broker) await(t *testing.T, what string, there func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !there() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waiting for the agent %s: not within %v\n%s", what, patience, b.log)
		}
	}
}

// header is what a workload reads into its environment at its start.
func (b *broker) header(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(b.dir, "identity", "header"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// ask asks for a token as an SDK does.
func (b *broker) ask(ctx context.Context, header string) (status int, answer map[string]any, err error) {
	query := url.Values{"api-version": {"2019-08-01"}, "resource": {"https://graph.microsoft.com"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.endpoint+"/msi/token?"+query.Encode(), nil)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("X-IDENTITY-HEADER", header)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	return response.StatusCode, answer, json.NewDecoder(response.Body).Decode(&answer)
}

// hands asks for a token and reports whether it is the one in a sink.
func (b *broker) hands(t *testing.T, header, sink string) bool {
	t.Helper()
	status, answer, err := b.ask(t.Context(), header)
	if err != nil || status != http.StatusOK {
		t.Fatalf("status %d, %v, %v", status, answer, err)
	}
	held, err := os.ReadFile(filepath.Join(b.dir, sink))
	if err != nil {
		t.Fatal(err)
	}
	return b.server.Valid(string(held)) && answer["access_token"] == string(held)
}

func TestIdentityEndpoint(t *testing.T) {
	b := newBroker(t, time.Hour/2)
	first := b.header(t)
	if !b.hands(t, first, "graph") {
		t.Error("the token is not the resource's")
	}
	if status, answer, err := b.ask(t.Context(), "wrong"); status != http.StatusUnauthorized || answer["message"] == "" {
		t.Errorf("with a wrong header: status %d, %v, %v", status, answer, err)
	}

	b.configure(t, "vault")
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.await(t, "to follow the reload", func() bool { return b.hands(t, first, "vault") })
	log := b.stop(t)

	b.start(t)
	if b.header(t) != first || !b.hands(t, first, "vault") {
		t.Error("the workloads' header is worth nothing after a restart")
	}
	log += b.stop(t)
	for _, leak := range []string{first, canary} {
		if strings.Contains(log, leak) {
			t.Errorf("the log shows a secret:\n%s", log)
		}
	}
	if strings.Contains(log, "level=ERROR") || strings.Contains(log, "level=WARN") {
		t.Errorf("the log complains:\n%s", log)
	}
}

func TestIdentityEndpointCannotStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), []byte(canary))
	for name, tc := range map[string]struct{ listen, file, want string }{
		"the address is taken": {taken.Addr().String(), "header", "identity_endpoint.listen: "},
		"no place for it":      {"127.0.0.1:0", "none/none/header", "identity_endpoint.header_file: "},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := filepath.Join(t.TempDir(), "credagent.yaml")
			write(t, cfg, fmt.Appendf(nil, `listen: ""
identity_endpoint: { listen: %q, header_file: %s/%s, token_for: { r: graph } }
clients: { app: { token_url: "http://127.0.0.1:1", client_id: app, credential: { provider: secretcred, config: { secret_file: %[2]s/secret } } } }
tokens: { graph: { client: app } }
`, tc.listen, dir, tc.file))
			var stderr bytes.Buffer
			if code := runSelf(t, io.Discard, &stderr, "run", "-c", cfg); code != exitConfig {
				t.Errorf("exit status %d, want %d", code, exitConfig)
			}
			if !strings.Contains(stderr.String(), cfg+":2:") || !strings.Contains(stderr.String(), tc.want) {
				t.Errorf("it says %s", &stderr)
			}
		})
	}
}

func TestIdentityMoved(t *testing.T) {
	one := config.IdentityEndpoint{Listen: "127.0.0.1:1", HeaderFile: "/h"}
	same, listen, file := one, one, one
	same.TokenFor = map[string]string{"r": "graph"}
	listen.Listen = "127.0.0.1:2"
	file.HeaderFile = "/i"
	for name, tc := range map[string]struct {
		was, is *config.IdentityEndpoint
		want    bool
	}{
		"never there": {nil, nil, false},
		"new":         {nil, &one, true},
		"gone":        {&one, nil, true},
		"resources":   {&one, &same, false},
		"listen":      {&one, &listen, true},
		"header_file": {&one, &file, true},
	} {
		if got := identityMoved(tc.was, tc.is); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}

// TestTenThousandSilentConnections: they stop neither a refresh nor a caller, and do not use up what
// the agent may open.
func TestTenThousandSilentConnections(t *testing.T) {
	b := newBroker(t, 4*time.Second)
	header := b.header(t)
	before := len(b.server.Requests())
	const crowd, workers = 10_000, 8
	var opening sync.WaitGroup
	held := make([][]net.Conn, workers)
	for i := range held {
		opening.Go(func() { held[i] = silent(b.endpoint, crowd/workers) })
	}
	opening.Wait()
	opened := 0
	for _, conns := range held {
		opened += len(conns)
		for _, conn := range conns {
			defer conn.Close()
		}
	}
	if opened < crowd {
		t.Logf("only %d connections can be opened on this host", opened)
	}
	if most := b.metric(t, "process_open_fds"); most > 400 {
		t.Errorf("the agent has %v files open", most)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.server.Wait(ctx, max(before, len(b.server.Requests()))+2); err != nil {
		t.Errorf("no refresh: %v", err)
	}
	if status, _, err := b.ask(ctx, header); status != http.StatusOK {
		t.Errorf("another caller gets status %d, %v", status, err)
	}
	if valid := b.metric(t, `credagent_token_valid{token="graph"}`); valid != 1 {
		t.Errorf("the token is not valid")
	}
}

// silent opens connections that send half a request and read nothing, as many as the host lets it.
func silent(address string, n int) []net.Conn {
	var conns []net.Conn
	for range n {
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			break
		}
		_, _ = conn.Write([]byte("GET /msi/token HTTP/1.1\r\nHost: 127.0.0.1\r\nX-")) // it may be closed already
		conns = append(conns, conn)
	}
	return conns
}

func (b *broker) metric(t *testing.T, name string) float64 {
	t.Helper()
	response, err := http.Get("http://" + b.listen + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return number
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
