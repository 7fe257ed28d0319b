//go:build unix

package sdktest

import (
	"bufio"
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/agentprocess"
	"github.com/credagent/credagent/testkit/nodetest"
)

const canary = "canary-sdk-secret-7b1e"

//go:embed azure-identity/package.json azure-identity/package-lock.json azure-identity/caller.mjs
//go:embed agents-hosting/package.json agents-hosting/package-lock.json agents-hosting/caller.mjs
var nodeFiles embed.FS

// agent is the running program, and the server behind it.
type agent struct {
	dir    string
	listen string
	sdkEnv []string // what tells an SDK of the endpoint
	server *devserver.Server
}

// startAgent runs the program with an identity endpoint, in front of a server that takes its time with the
// first request.
func startAgent(t *testing.T) *agent {
	t.Helper()
	a := newAgent(t, "slow=1500ms*1")
	endpoint, header := agentprocess.FreeAddress(t), filepath.Join(a.dir, "identity", "header")
	a.run(t, fmt.Sprintf("identity_endpoint: { listen: %s, header_file: %s, token_for: { %q: graph } }", endpoint, header, resource))
	agentprocess.Until(t, "the header file", func() bool {
		content, err := os.ReadFile(header)
		a.sdkEnv = []string{"IDENTITY_ENDPOINT=http://" + endpoint + "/msi/token", "IDENTITY_HEADER=" + string(content)}
		return err == nil
	})
	return a
}

// newAgent makes the server, with its first fault, and a place for the agent, which does not run yet.
func newAgent(t *testing.T, first string) *agent {
	t.Helper()
	a := &agent{dir: t.TempDir(), listen: agentprocess.FreeAddress(t)}
	var err error
	a.server, err = devserver.New(devserver.Options{
		TTL: tokenLife, RefreshIn: refreshIn,
		Clients: []devserver.Client{{ID: "app", Secret: secret.New(canary)}},
		Faults:  []devserver.Fault{fault(t, first)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.server.Close() })
	return a
}

// run runs the agent with an endpoint, a line of its configuration.
func (a *agent) run(t *testing.T, endpoint string) {
	t.Helper()
	program, err := agentprocess.Credagent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(a.dir, "credagent.yaml")
	write(t, filepath.Join(a.dir, "secret"), canary)
	write(t, config, fmt.Sprintf(`listen: %s
%s
clients: { app: { token_url: %q, client_id: app, credential: { provider: secretcred, config: { secret_file: %s/secret } } } }
tokens: { graph: { client: app, scopes: [%s/.default] } }
sinks: [{ type: file, token: graph, path: %[4]s/token }]
`, a.listen, endpoint, a.server.TokenURL(), a.dir, resource))
	p := agentprocess.Start(t, exec.Command(program, "run", "-c", config))
	t.Cleanup(func() {
		status, leak := p.Stop(), strings.Contains(p.Log.String(), canary)
		if status != 0 || leak {
			t.Errorf("the agent ends with %d; its log shows a secret: %t", status, leak)
		}
	})
}

func (a *agent) status() (status.Status, error) {
	response, err := http.Get("http://" + a.listen + "/v1/status")
	if err != nil {
		return status.Status{}, err
	}
	defer response.Body.Close()
	var s status.Status
	return s, json.NewDecoder(response.Body).Decode(&s)
}

// held is the token in the sink; "" while there is none.
func (a *agent) held(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(a.dir, "token"))
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	return string(content)
}

// noteHeld notes what the sink holds, from now until it is stopped.
func (a *agent) noteHeld(t *testing.T) (stop func() []string) {
	held, done, ended := []string{a.held(t)}, make(chan struct{}), make(chan struct{})
	note := func() {
		if now := a.held(t); now != held[len(held)-1] {
			held = append(held, now)
		}
	}
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				note()
			}
		}
	}()
	return func() []string {
		close(done)
		<-ended
		note()
		return held
	}
}

// seen waits until the server has seen so many requests and the agent has learned from them.
func (a *agent) seen(t *testing.T, requests int) {
	t.Helper()
	agentprocess.Until(t, fmt.Sprintf("request %d", requests), func() bool {
		s, err := a.status()
		return err == nil && s.Tokens[0].Requests >= requests
	})
}

// follow notes the agent's plans until it is stopped: after so many requests, when to make the next.
func (a *agent) follow() (stop func() map[int]time.Time) {
	plans, done, ended := map[int]time.Time{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if s, err := a.status(); err == nil && s.Tokens[0].RefreshAt != nil {
				plans[s.Tokens[0].Requests] = *s.Tokens[0].RefreshAt
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() map[int]time.Time {
		close(done)
		<-ended
		return plans
	}
}

// workload is a process with an SDK.
type workload struct {
	name    string
	cmd     *exec.Cmd
	orders  *json.Encoder
	answers *json.Decoder
}

// order is what a workload is to ask for.
type order struct {
	Credential string `json:"credential"` // managed or default
	ClientID   string `json:"client_id,omitempty"`
	Scope      string `json:"scope"`
	Calls      int    `json:"calls"`
	Callers    int    `json:"callers"`

	Service       string `json:"service,omitempty"` // of the auth sidecar
	AgentIdentity string `json:"agent_identity,omitempty"`
}

// answer is what came of it.
type answer struct {
	Tokens    map[string]int `json:"tokens"` // how often it got which
	ExpiresOn int64          `json:"expires_on"`
	Errors    []string       `json:"errors"`
	Healthy   bool           `json:"healthy"` // of the auth sidecar
	TookMS    int64          `json:"took_ms"`
}

// prepareWorkloads builds and installs what the SDKs need, and starts nothing.
func prepareWorkloads(t *testing.T) []*workload {
	t.Helper()
	program := filepath.Join(t.TempDir(), "azidentity")
	if err := agentprocess.Build("test", "./sdktest/azidentity", program); err != nil {
		t.Fatal(err)
	}
	return []*workload{{name: "azidentity", cmd: exec.Command(program)}, prepareNode(t, "azure-identity", "@azure/identity")}
}

// prepareNode installs an SDK for JavaScript, by the directory of its caller.
func prepareNode(t *testing.T, dir, name string) *workload {
	t.Helper()
	files, err := fs.Sub(nodeFiles, dir)
	if err != nil {
		t.Fatal(err)
	}
	script, err := nodetest.Project{Name: dir, Files: files, Script: "caller.mjs"}.Command(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &workload{name: name, cmd: script}
}

func (w *workload) start(t *testing.T, env []string) {
	t.Helper()
	w.cmd.Env = append(w.cmd.Environ(), env...)
	var stderr bytes.Buffer
	w.cmd.Stderr = &stderr
	in, err := w.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.orders, w.answers = json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))
	t.Cleanup(func() {
		_ = in.Close()
		if err := w.cmd.Wait(); err != nil {
			t.Errorf("%s ends with %v\n%s", w.name, err, &stderr)
		}
	})
}

// ask has the callers of a workload ask for tokens.
func (w *workload) ask(o order) (answer, error) {
	o.Scope, o.Calls, o.Callers = resource+"/.default", cmp.Or(o.Calls, callsPerRound), callers
	timer := time.AfterFunc(patience, func() { _ = w.cmd.Process.Kill() })
	defer timer.Stop()
	var got answer
	if err := w.orders.Encode(o); err != nil {
		return got, err
	}
	return got, w.answers.Decode(&got)
}

func fault(t *testing.T, text string) devserver.Fault {
	t.Helper()
	parsed, err := devserver.ParseFault(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
