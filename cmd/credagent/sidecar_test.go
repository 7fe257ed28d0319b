//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/testkit/peertest"
)

// authorization asks the auth sidecar for an API's header.
func authorization(t *testing.T, at, api string) (status int, header string) {
	t.Helper()
	response, err := http.Get("http://" + at + "/AuthorizationHeaderUnauthenticated/" + api)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body struct{ AuthorizationHeader string }
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body.AuthorizationHeader
}

// TestAuthSidecar asks the running program, as its own user and as others, and reloads it.
func TestAuthSidecar(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("who asks, only Linux tells")
	}
	server := hourlyServer(t, time.Hour/2)
	b := &broker{dir: t.TempDir(), server: server, listen: freeAddress(t), endpoint: freeAddress(t)}
	write(t, filepath.Join(b.dir, "secret"), []byte(canary))
	configure := func(tokenFor string) {
		write(t, filepath.Join(b.dir, "credagent.yaml"), fmt.Appendf(nil, `listen: %s
auth_sidecar: { listen: %s, token_for: { Graph: %s } }
clients: { app: { token_url: %q, client_id: app, credential: { provider: secretcred, config: { secret_file: %[5]s/secret } } } }
tokens: { graph: { client: app, scopes: [graph], allow: [{ user: "61001" }] }, vault: { client: app, scopes: [vault] } }
sinks: [{ type: file, token: graph, path: %[5]s/graph }, { type: file, token: vault, path: %[5]s/vault }]
`, b.listen, b.endpoint, tokenFor, server.TokenURL(), b.dir))
	}
	configure("graph")
	b.start(t)
	hands := func(sink string) bool {
		status, header := authorization(t, b.endpoint, "Graph")
		held, err := os.ReadFile(filepath.Join(b.dir, sink))
		if err != nil {
			t.Fatal(err)
		}
		return status == http.StatusOK && header == "Bearer "+string(held)
	}
	if !hands("graph") {
		t.Error("the agent's own user does not get the token")
	}
	if status, _ := authorization(t, b.endpoint, "Vault"); status != http.StatusNotFound {
		t.Errorf("an API that is not served: status %d", status)
	}
	if os.Geteuid() == 0 {
		for user, want := range map[uint32]int{61001: http.StatusOK, 61002: http.StatusForbidden} {
			if got := statusAs(t, user, b.endpoint); got != want {
				t.Errorf("user %d: status %d, want %d", user, got, want)
			}
		}
	}
	configure("vault")
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.await(t, "to follow the reload", func() bool { return hands("vault") })
	if log := b.stop(t); strings.Contains(log, canary) || strings.Contains(log, "level=ERROR") || strings.Contains(log, "level=WARN") {
		t.Errorf("the log complains, or shows a secret:\n%s", log)
	}
}

// askSidecarArgument makes the test binary ask the auth sidecar at an address for its API Graph.
const askSidecarArgument = "ask-sidecar"

// askSidecar asks, prints the status of the answer, and ends.
func askSidecar(at string) {
	response, err := http.Get("http://" + at + "/AuthorizationHeaderUnauthenticated/Graph")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = response.Body.Close()
	fmt.Print(response.StatusCode)
	os.Exit(0)
}

func statusAs(t *testing.T, user uint32, at string) (status int) {
	t.Helper()
	cmd := peertest.Command(t, peertest.Identity{UID: user, GID: user}, askSidecarArgument, at)
	out, err := cmd.Output()
	if _, scanErr := fmt.Sscan(string(out), &status); err != nil || scanErr != nil {
		t.Fatalf("asking as user %d: %v\n%s", user, err, out)
	}
	return status
}

func TestAuthSidecarCannotStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), []byte(canary))
	for name, tc := range map[string]struct{ listen, allow, want string }{
		"the address is taken": {taken.Addr().String(), "", "auth_sidecar.listen: "},
		"nobody of that name":  {"127.0.0.1:0", "allow: [{ user: nobody-of-that-name }]", "tokens.graph.allow[0]: looking up user"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := filepath.Join(t.TempDir(), "credagent.yaml")
			write(t, cfg, fmt.Appendf(nil, `listen: ""
auth_sidecar: { listen: %q, token_for: { Graph: graph } }
clients: { app: { token_url: "http://127.0.0.1:1", client_id: app, credential: { provider: secretcred, config: { secret_file: %s/secret } } } }
tokens: { graph: { client: app, %s } }
`, tc.listen, dir, tc.allow))
			var stderr bytes.Buffer
			if code := runSelf(t, io.Discard, &stderr, "run", "-c", cfg); code != exitConfig {
				t.Errorf("exit status %d, want %d", code, exitConfig)
			}
			if !strings.Contains(stderr.String(), tc.want) {
				t.Errorf("it says %s", &stderr)
			}
		})
	}
}

func TestSidecarMoved(t *testing.T) {
	one := config.AuthSidecar{Listen: "127.0.0.1:1"}
	same, listen := one, one
	same.TokenFor = map[string]string{"Graph": "graph"}
	listen.Listen = "127.0.0.1:2"
	for name, tc := range map[string]struct {
		was, is *config.AuthSidecar
		want    bool
	}{
		"never there": {nil, nil, false},
		"new":         {nil, &one, true},
		"gone":        {&one, nil, true},
		"APIs":        {&one, &same, false},
		"listen":      {&one, &listen, true},
	} {
		if got := sidecarMoved(tc.was, tc.is); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}
