//go:build unix

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credagent/credagent/agent"
	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
)

// revocable is a host with an agent that keeps one token, a provider's process, an authorization
// server, and a resource server that can revoke.
type revocable struct {
	server *devserver.Server
	agent  *agent.Agent
	file   string

	firstRejection atomic.Pointer[time.Time]
}

func newRevocable(t *testing.T) *revocable {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), []byte(canary))
	server, err := devserver.New(devserver.Options{TTL: 28 * time.Hour, RefreshIn: 14 * time.Hour, Clients: []devserver.Client{
		{ID: "app", Secret: secret.New(canary)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	text := fmt.Sprintf(`listen: ""
clients: { app: { token_url: %q, client_id: app, credential: { provider: secretcred, config: { secret_file: %s/secret } } } }
tokens: { graph: { client: app, scopes: [read], cae: true } }
sinks: [{ type: file, token: graph, path: %s/graph.token }]
`, server.TokenURL(), dir, dir)
	cfg, err := config.Parse("cae.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	r := &revocable{server: server, file: filepath.Join(dir, "graph.token")}
	r.agent, _ = newAgent(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err := r.agent.Open(); err != nil {
		t.Fatal(err)
	}
	return r
}

// run runs the agent for the length of the test, and returns when it is ready.
func (r *revocable) run(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.agent.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	r.until(t, "the agent is ready", func() bool { return r.agent.Status().Ready })
}

// until waits for something to be so, but not for ever.
func (r *revocable) until(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Errorf("%s: not within %v", what, patience)
			return
		}
	}
}

func (r *revocable) read(t *testing.T) string {
	data, err := os.ReadFile(r.file)
	if err != nil || len(data) == 0 {
		t.Errorf("the file is empty or cannot be read: %v", err)
	}
	return string(data)
}

// visit shows the resource the token in the file. The challenge is "" when it is accepted.
func (r *revocable) visit(t *testing.T) (accessToken, challenge string) {
	accessToken = r.read(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.server.URL()+"/resource", nil)
	if err != nil {
		t.Error(err)
		return accessToken, ""
	}
	request.Header.Set("Authorization", "Bearer "+accessToken)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return accessToken, ""
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return accessToken, ""
	}
	now := time.Now()
	r.firstRejection.CompareAndSwap(nil, &now)
	return accessToken, response.Header.Get("WWW-Authenticate")
}

// workload uses the token in the file, and reports each time that it is rejected, until another than
// the old one is accepted. It says when it was accepted for the first time.
func (r *revocable) workload(t *testing.T, old string, accepted func()) (accessToken string) {
	once := sync.OnceFunc(accepted)
	defer once()
	r.until(t, "the token is accepted again", func() bool {
		var challenge string
		if accessToken, challenge = r.visit(t); challenge == "" {
			once()
			return accessToken != old
		}
		sum := sha256.Sum256([]byte(accessToken))
		if err := r.agent.Challenge(t.Context(), "graph", challenge, hex.EncodeToString(sum[:])); err != nil {
			t.Errorf("handing in the challenge: %v", err)
		}
		return false
	})
	return accessToken
}

// TestRevokedTokenIsReplacedOnce has a resource server revoke the token that fifty workloads use.
func TestRevokedTokenIsReplacedOnce(t *testing.T) {
	const workloads = 50
	r := newRevocable(t)
	r.run(t)
	old := r.read(t)
	var working, ended sync.WaitGroup
	working.Add(workloads)
	last := make([]string, workloads)
	for i := range workloads {
		ended.Go(func() { last[i] = r.workload(t, old, working.Done) })
	}
	working.Wait()
	claims := r.server.Revoke()
	r.until(t, "a new token is in the file", func() bool { return r.read(t) != old })
	written := time.Now()
	ended.Wait()
	t.Logf("%d workloads: %v from the first 401 to the new token in the file", workloads, written.Sub(*r.firstRejection.Load()))

	fresh := r.read(t)
	for i, accessToken := range last {
		if accessToken != fresh || accessToken == old {
			t.Errorf("workload %d ends with another token than the file's", i)
		}
	}
	requests := r.server.Requests()
	if len(requests) != 2 {
		t.Fatalf("%d token requests, want the first and one for the challenge", len(requests))
	}
	if first, second := requests[0].Form.Get("claims"), requests[1].Form.Get("claims"); first != `{"access_token":{"xms_cc":{"values":["cp1"]}}}` ||
		!strings.Contains(second, strings.TrimSuffix(strings.TrimPrefix(claims, `{"access_token":{`), `}}`)) || !strings.Contains(second, "cp1") {
		t.Errorf("the requests ask for %s and %s", first, second)
	}
	if s := r.agent.Status(); !s.Ready || s.Tokens[0].ChallengePending {
		t.Errorf("status at the end: ready %v, %+v", s.Ready, s.Tokens[0])
	}
}
