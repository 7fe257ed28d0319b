package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

// TestServiceManager is a service manager: it starts the daemon, hears what it says, and stops it.
func TestServiceManager(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cmd, log := startDaemon(t, dir, "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=200000")
	hear := func(want string) { hearState(t, conn, want) }

	hear("READY=1")
	if _, err := os.Stat(filepath.Join(dir, "token")); err != nil {
		t.Errorf("READY before the token is on disk: %v", err)
	}
	hear("STATUS=1 of 1 token valid")
	hear("WATCHDOG=1")
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	hear("RELOADING=1\nMONOTONIC_USEC=")
	hear("READY=1")
	begun := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	hear("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit after SIGTERM: %v\n%s", err, log)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if _, err := os.Stat(filepath.Join(dir, "token")); err != nil {
		t.Errorf("the file did not stay: %v", err)
	}
}

// startDaemon runs the daemon with one token written to dir/token.
func startDaemon(t *testing.T, dir string, env ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	tokenURL := testServer(t, time.Hour)
	write(t, filepath.Join(dir, "secret"), []byte(canary))
	cfg := filepath.Join(dir, "credagent.yaml")
	write(t, cfg, fmt.Appendf(nil, `listen: ""
clients: { app: { token_url: %q, client_id: app, credential: { provider: secretcred, config: { secret_file: %s/secret } } } }
tokens: { graph: { client: app, scopes: [read] } }
sinks: [{ type: file, token: graph, path: %s/token }]
`, tokenURL, dir, dir))
	log := &bytes.Buffer{}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "run", "-c", cfg)
	cmd.Env = append(append(os.Environ(), selfVariable+"=1"), env...)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, log
}

// testServer starts a server with a client "app" and returns its token endpoint.
func testServer(t *testing.T, ttl time.Duration) string {
	t.Helper()
	server, err := devserver.New(devserver.Options{TTL: ttl, Clients: []devserver.Client{{ID: "app", Secret: secret.New(canary)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server.TokenURL()
}

// hearState waits for a message with the given beginning; others may come before it.
func hearState(t *testing.T, conn *net.UnixConn, want string) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 4096)
	for {
		n, err := conn.Read(message)
		if err != nil {
			t.Fatalf("waiting for %q: %v", want, err)
		}
		if strings.HasPrefix(string(message[:n]), want) {
			return
		}
	}
}
