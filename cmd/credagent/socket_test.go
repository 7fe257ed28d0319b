package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/peertest"
)

// waitReady waits until the agent behind a socket is ready: `waitready SOCKET`.
func waitReady(ts *testscript.TestScript, _ bool, args []string) {
	at := agentAt{socket: ts.MkAbs(args[0])}
	await(ts, "ready at "+at.socket, func() bool {
		s, err := askStatus(context.Background(), at)
		return err == nil && s.Ready
	})
}

// The users of these tests. None need exist.
const (
	agentUser    = 62200
	connectGroup = 62100 // who may connect to the socket
	readGroup    = 62001 // who may have the token
)

// socketAgent is a running agent with a socket, and the server behind it.
type socketAgent struct {
	dir    string
	config string
	socket string
	server *devserver.Server
	log    *bytes.Buffer
	cmd    *exec.Cmd
}

// prepareSocketAgent writes what an agent with one token needs, for a user to own.
func prepareSocketAgent(t *testing.T, ttl time.Duration, owner int) *socketAgent {
	t.Helper()
	server, err := devserver.New(devserver.Options{TTL: ttl, Clients: []devserver.Client{{ID: "app", Secret: secret.New(canary)}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	dir := dirOfAgent(t, owner)
	a := &socketAgent{dir: dir, config: filepath.Join(dir, "credagent.yaml"), socket: filepath.Join(dir, "s"), server: server, log: &bytes.Buffer{}}
	write(t, filepath.Join(dir, "secret"), []byte(canary))
	a.allow(t, fmt.Sprintf("[{ group: %d }]", readGroup))
	for _, path := range []string{dir, a.config, filepath.Join(dir, "secret")} {
		if err := os.Chown(path, owner, -1); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// dirOfAgent returns a directory for what an agent owns. In one that is open to all, such as /tmp, another
// user's socket is not believed to be the agent's.
func dirOfAgent(t *testing.T, owner int) string {
	t.Helper()
	if owner == os.Geteuid() {
		return peertest.Dir(t)
	}
	dir, err := os.MkdirTemp("/run", "credagent-socket-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// allow writes the configuration with who may have the token.
func (a *socketAgent) allow(t *testing.T, principals string) {
	t.Helper()
	group := os.Getegid()
	if os.Geteuid() == 0 {
		group = connectGroup
	}
	write(t, a.config, fmt.Appendf(nil, `listen: ""
socket: { path: %q, group: %d }
clients: { app: { token_url: %q, client_id: app, credential: { provider: secretcred, config: { secret_file: %s/secret } } } }
tokens: { graph: { client: app, scopes: [read], allow: %s } }
`, a.socket, group, a.server.TokenURL(), a.dir, principals))
}

// run runs the agent until the test ends, and waits until it is ready.
func (a *socketAgent) run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	a.cmd = cmd
	cmd.Args = append(cmd.Args, "run", "-c", a.config)
	cmd.Env = append(os.Environ(), selfVariable+"=1")
	cmd.Stderr = a.log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Wait(); !cmd.ProcessState.Success() {
			t.Errorf("the agent: %v\n%s", err, a.log)
		}
	})
	eventually(t, "ready", func() bool {
		s, err := askStatus(t.Context(), agentAt{socket: a.socket})
		return err == nil && s.Ready
	})
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// asUser runs the program as somebody else, and returns its exit status and what it printed.
func asUser(t *testing.T, as peertest.Identity, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := peertest.Command(t, as, args...)
	cmd.Env = append(os.Environ(), selfVariable+"=1")
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), problems.String()
}

// TestUsersOfTheMachine runs the agent as a user without privileges, and asks it as several others.
func TestUsersOfTheMachine(t *testing.T) {
	agentIs := peertest.Identity{UID: agentUser, GID: agentUser, Groups: []uint32{connectGroup}}
	daemon := peertest.Command(t, agentIs)
	a := prepareSocketAgent(t, time.Hour, agentUser)
	a.run(t, daemon)
	ask := func(as peertest.Identity, args ...string) (int, string, string) {
		return asUser(t, as, append(args, "--socket", a.socket)...)
	}
	stranger := peertest.Identity{UID: 61009, GID: 61009, Groups: []uint32{connectGroup}}
	tests := []struct {
		name   string
		as     peertest.Identity
		code   int
		stderr string
	}{
		{"root", peertest.Identity{}, exitOK, ""},
		{"the agent's own user", agentIs, exitOK, ""},
		{"by group", peertest.Identity{UID: 61001, GID: 61001, Groups: []uint32{connectGroup, readGroup}}, exitOK, ""},
		{"a stranger", stranger, exitRefused, `user 61009 is not allowed to have a token "graph"` + "\n    hint: the token's allow"},
		{"who may not connect", peertest.Identity{UID: 61001, GID: readGroup}, exitRefused, "permission denied\n    hint: the socket's group and mode"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, args := range [][]string{{"token", "graph"}, {"refresh", "graph"}} {
				code, stdout, stderr := ask(test.as, args...)
				if code != test.code || !strings.Contains(stderr, test.stderr) {
					t.Errorf("%v: exit status %d, %q; want %d, %q", args, code, stderr, test.code, test.stderr)
				}
				if args[0] == "token" && a.server.Valid(stdout) != (test.code == exitOK) {
					t.Errorf("a good token was printed: %v", test.code != exitOK)
				}
			}
		})
	}
	if code, _, stderr := ask(stranger, "token", "nosuch"); code != exitRefused || !strings.Contains(stderr, `not allowed to have a token "nosuch"`) {
		t.Errorf("a stranger who asks for a token that is not there: %d, %q", code, stderr)
	}
	if code, _, stderr := ask(stranger, "ready"); code != exitRefused {
		t.Errorf("a stranger who asks for the state: %d, %q", code, stderr)
	}
	if code, _, stderr := asUser(t, stranger, "token", "graph", "-c", a.config); code != exitConfig || !strings.Contains(stderr, "hint: --socket PATH") {
		t.Errorf("who may not read the configuration: %d, %q", code, stderr)
	}
	a.allow(t, "[{ user: 61009 }]")
	if err := a.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a reload lets the stranger in", func() bool {
		code, _, _ := ask(stranger, "token", "graph")
		return code == exitOK
	})
	if code, _, _ := ask(tests[2].as, "token", "graph"); code != exitRefused {
		t.Errorf("who is not allowed any more: %d", code)
	}
}

// TestTenThousandConnections: however many connect, say nothing, say half of something or ask and
// never listen, the agent refreshes by order and by its schedule, and others are served.
func TestTenThousandConnections(t *testing.T) {
	const connections = 10_000
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < connections+500 {
		t.Skipf("%d connections need as many open files, and this process may have %d (%v)", connections, files.Cur, err)
	}
	a := prepareSocketAgent(t, 14*time.Second, os.Geteuid())
	a.run(t, exec.CommandContext(t.Context(), os.Args[0]))
	request := "GET /v1/tokens/graph HTTP/1.1\r\nHost: credagent\r\n\r\n"
	says := []string{"", request[:len(request)-2], strings.Repeat(request, 8)}
	held := make([]net.Conn, connections)
	var opening sync.WaitGroup
	for part := range 50 {
		opening.Go(func() {
			for i := part; i < connections; i += 50 {
				held[i] = persistently(t, a.socket)
				_, _ = held[i].Write([]byte(says[i%len(says)])) // it may have had to make room already
			}
		})
	}
	opening.Wait()
	defer func() {
		for _, conn := range held {
			_ = conn.Close()
		}
	}()
	before := len(a.server.Requests())
	var stdout, stderr bytes.Buffer
	if code := runSelf(t, &stdout, &stderr, "refresh", "graph", "--socket", a.socket); code != exitOK {
		t.Errorf("refresh: exit status %d: %s", code, &stderr)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.server.Wait(ctx, before+2); err != nil {
		t.Errorf("no refresh by schedule: %v", err)
	}
	stdout.Reset()
	if code := runSelf(t, &stdout, &stderr, "token", "graph", "--socket", a.socket); code != exitOK || !a.server.Valid(stdout.String()) {
		t.Errorf("token: exit status %d: %s", code, &stderr)
	}
}

// persistently connects, also when the socket's queue is full for the moment.
func persistently(t *testing.T, socket string) net.Conn {
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn
		}
		if !errors.Is(err, syscall.EAGAIN) || t.Context().Err() != nil {
			t.Error(err)
			here, _ := net.Pipe()
			return here
		}
	}
}
