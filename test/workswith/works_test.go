// Package workswith_test proves what docs/workloads.md says of each consumer: it starts the real
// program or library as its example configures it, against a running agent, and waits until the
// consumer presents a second token to a server that takes no others. It has no code but tests, and
// is a module of its own, so that nobody who builds credagent needs what it imports.
package workswith_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/agentprocess"
)

const (
	root     = "../.."
	patience = 2 * time.Minute
	leeway   = 5 * time.Second
	canary   = "canary-secret-8c1e44"
)

// Tokens live for a minute, which every consumer accepts, and are refreshed every five seconds.
const (
	life      = 65 * time.Second
	refreshIn = 5 * time.Second
)

// program is the built binary. It is set before any test runs and not changed after.
var program string

func TestMain(m *testing.M) {
	os.Exit(agentprocess.Main(&program, m.Run))
}

// stage is where an example runs: it stands in for every name and path that the example has.
type stage struct {
	*testing.T
	example string
	dir     string // of the sinks, and of all else that the example puts under /run
	config  string
	names   []string // more of what the stage stands in for, in pairs
	tokens  *devserver.Server
	api     *api
}

// newStage makes a stage for the example in the directory of that name. Nothing runs yet but the
// authorization server and the resource.
func newStage(t *testing.T, example string, lifeOfTokens time.Duration) *stage {
	t.Helper()
	t.Parallel()
	s := &stage{T: t, example: example, dir: t.TempDir()}
	// A temporary directory is everybody's to write to in some places, and no sink goes there.
	s.must(os.Chmod(s.dir, 0o755))
	var err error
	s.tokens, err = devserver.New(devserver.Options{
		TTL: lifeOfTokens, RefreshIn: refreshIn, JWT: true,
		Clients: []devserver.Client{{ID: "app", Secret: secret.New(canary)}},
	})
	s.must(err)
	s.must(s.tokens.Start())
	t.Cleanup(func() { _ = s.tokens.Close() })
	s.api = newAPI(s)
	s.write("app.secret", canary+"\n")
	s.config = s.adapted("credagent.yaml")
	return s
}

// start starts the agent and waits until it has written the sinks of these names.
func (s *stage) start(sinks ...string) {
	s.Helper()
	cmd := exec.Command(program, "run", "-c", s.config)
	cmd.Env = environment()
	agent := agentprocess.Start(s, cmd)
	s.Cleanup(func() {
		agent.Stop()
		if strings.Contains(agent.Log.String(), canary) {
			s.Error("the agent's log holds the client secret")
		}
	})
	agent.Await("the sinks are there", func() bool {
		for _, name := range sinks {
			if _, err := os.Stat(s.path(name)); err != nil {
				return false
			}
		}
		return true
	})
}

// once has the agent get a token and write the sinks, now.
func (s *stage) once() {
	s.Helper()
	cmd := exec.Command(program, "once", "-c", s.config)
	cmd.Env = environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		s.Fatalf("getting a token: %v\n%s", err, out)
	}
}

// environment is what programs see: what they need to run, and nothing that configures them.
func environment(more ...string) []string {
	path := filepath.Dir(program) + string(os.PathListSeparator) + os.Getenv("PATH")
	return append([]string{"PATH=" + path, "TMPDIR=" + os.TempDir()}, more...)
}

// adapted copies a file of the example to the stage, with the stage's own names in it, and returns
// where it is.
func (s *stage) adapted(name string) string {
	s.Helper()
	content, err := os.ReadFile(filepath.Join(root, "examples/works-with", s.example, name))
	s.must(err)
	text := strings.NewReplacer(append(slices.Clone(s.names),
		"proxy_ssl_name api.example.com", "proxy_ssl_name example.com", // nginx checks no certificate of an address
		"https://login.example.com", s.tokens.URL(),
		"https://api.example.com", s.api.URL,
		"https://modules.example.com", s.api.URL,
		"https://git.example.com", s.api.URL,
		"modules.example.com", s.api.Listener.Addr().String(),
		"api.example.com", s.api.Listener.Addr().String(),
		"db.example.com:5432", "*:*",
		"/etc/ssl/certs/ca-certificates.crt", s.path("ca.pem"),
		"/etc/credagent", s.dir,
		"/run/credagent", s.dir,
		"/run", s.dir,
		"command: credagent", "command: "+program,
		"127.0.0.1:8080", "unix:"+s.path("proxy.sock"),
	)...).Replace(string(content))
	if strings.Contains(text, ".example.com") {
		s.Fatalf("%s names a server that the test does not know:\n%s", name, text)
	}
	if name == "credagent.yaml" {
		text = "listen: \"\"\n" + ofOneUser(text)
	}
	return s.write(filepath.Base(name), text)
}

// ofOneUser leaves out for whom a sink is: everything on a stage runs as one user.
func ofOneUser(config string) string {
	var kept strings.Builder
	for line := range strings.Lines(config) {
		key, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		if key != "readers" && key != "owner" && key != "allow" {
			kept.WriteString(line)
		}
	}
	return strings.ReplaceAll(kept.String(), ", group: credagent }", " }")
}

// name copies a file of the example to the stage, and returns its name there.
func (s *stage) name(file string) string {
	s.Helper()
	return filepath.Base(s.adapted(file))
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

func (s *stage) write(name, content string) string {
	s.Helper()
	s.must(os.WriteFile(s.path(name), []byte(content), 0o600))
	return s.path(name)
}

func (s *stage) read(name string) string {
	s.Helper()
	content, err := os.ReadFile(s.path(name))
	s.must(err)
	return string(content)
}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// until waits for something that is to come about.
func (s *stage) until(what string, done func() bool) {
	s.Helper()
	deadline, tick := time.After(patience), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			s.Fatalf("waited in vain until %s", what)
		}
	}
}

// presents uses the consumer until it has presented two tokens that are not the same, which it
// can only have from a sink that was written again.
func (s *stage) presents(use func()) {
	s.Helper()
	s.until("the consumer has presented a second token", func() bool {
		use()
		return s.api.seen() >= 2
	})
	if refused := s.api.refusals(); refused != 0 {
		s.Errorf("%d requests were refused, want a good token in each", refused)
	}
}

// runs runs a program to its end.
func (s *stage) runs(env []string, name string, args ...string) string {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = env, s.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// serves starts a program that runs until the test is over.
func (s *stage) serves(cmd *exec.Cmd) {
	s.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if cmd.Env == nil {
		cmd.Env = environment()
	}
	s.must(cmd.Start())
	s.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if s.Failed() {
			s.Logf("%s:\n%s", cmd.Path, &log)
		}
	})
}

// needs leaves the test out, for all to see, where a program is missing.
func needs(t *testing.T, debian string, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); errors.Is(err, exec.ErrNotFound) {
			t.Skipf("%s is missing, so this consumer is NOT tested: apt-get install %s", name, debian)
		}
	}
}

// api is the resource that consumers use: it takes the tokens of the stage's authorization server
// and no others, as a bearer token or as a password, and remembers which it was shown.
type api struct {
	*httptest.Server
	tokens *devserver.Server

	mu      sync.Mutex
	handler http.Handler
	shown   map[string]time.Time // when last, by token
	refused int
}

func newAPI(s *stage) *api {
	a := &api{tokens: s.tokens, shown: map[string]time.Time{}, handler: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/plain") },
	)}
	a.Server = httptest.NewUnstartedServer(a)
	a.EnableHTTP2 = true
	a.StartTLS()
	s.Cleanup(a.Close)
	s.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})))
	return a
}

// serve has the api answer with something of the test's own.
func (a *api) serve(h http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handler = h
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, accessToken, basic := r.BasicAuth()
	if !basic {
		accessToken, _ = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	if accessToken == "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="api"`)
		http.Error(w, "no token", http.StatusUnauthorized)
		return
	}
	if !a.takes(accessToken) {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		http.Error(w, "not a token that is good now", http.StatusUnauthorized)
		return
	}
	a.mu.Lock()
	handler := a.handler
	a.mu.Unlock()
	handler.ServeHTTP(w, r)
}

// takes judges and remembers a token. One that ended on its way is taken still, as resources do
// because clocks differ.
func (a *api) takes(accessToken string) bool {
	valid := a.tokens.Valid(accessToken)
	a.mu.Lock()
	defer a.mu.Unlock()
	if valid {
		a.shown[accessToken] = time.Now()
	} else if valid = time.Since(a.shown[accessToken]) < leeway; !valid {
		a.refused++
	}
	return valid
}

// seen is how many different tokens were presented.
func (a *api) seen() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.shown)
}

func (a *api) refusals() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refused
}
