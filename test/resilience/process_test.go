//go:build linux

package resilience_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/testkit/agentprocess"
)

// host is a machine as far as the agent can tell: a directory with its configuration, credential,
// state and sinks, and an authorization server.
type host struct {
	dir    string
	server *devserver.Server
	listen string
	newest *process // started last
}

// newHost starts a server with a client "app", or those named.
func newHost(t *testing.T, options devserver.Options, clients ...string) *host {
	t.Helper()
	h := &host{dir: t.TempDir(), listen: ownAddress()}
	for _, dir := range []string{"sinks", "tmp"} {
		must(t, os.Mkdir(h.path(dir), 0o755))
	}
	must(t, os.Link(program, h.program())) // a name of its own tells its processes from other tests'
	h.write(t, "secret", canary)
	key, err := store.NewKey(time.Now())
	must(t, err)
	h.write(t, "state-key", key.Reveal())
	for _, id := range append(clients, "app") {
		options.Clients = append(options.Clients, devserver.Client{ID: id, Secret: secret.New(canary)})
	}
	h.server = startServer(t, options)
	return h
}

func startServer(t *testing.T, options devserver.Options) *devserver.Server {
	t.Helper()
	server, err := devserver.New(options)
	must(t, err)
	must(t, server.Start())
	t.Cleanup(func() { _ = server.Close() })
	return server
}

// ownAddress is a loopback address that nobody else uses. A free port of 127.0.0.1 may be taken by
// the time it is needed, and a restart needs it again.
func ownAddress() string {
	return fmt.Sprintf("127.%d.%d.%d:9465", 64+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254))
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) program() string { return h.path("credagent") }

func (h *host) write(t *testing.T, name, content string) {
	t.Helper()
	must(t, os.WriteFile(h.path(name), []byte(content), 0o600))
}

// preamble is the part of a configuration that is the same for all: log, listener and state.
func (h *host) preamble() string {
	return fmt.Sprintf("log: { format: json }\nlisten: %s\nstate: { dir: %s, key_file: %s }\n",
		h.listen, h.path("state"), h.path("state-key"))
}

// clientLine configures a client that authenticates with the canary.
func (h *host) clientLine(name, tokenURL, more string) string {
	return fmt.Sprintf("  %s: { token_url: %q, client_id: %s, %s credential: { provider: secretcred, config: { secret_file: %s } } }\n",
		name, tokenURL, name, more, h.path("secret"))
}

// process is one start of the program.
type process struct{ *agentprocess.Process }

// start runs the daemon with the configuration in credagent.yaml.
func (h *host) start(t *testing.T, environment ...string) *process {
	t.Helper()
	return h.launch(t, exec.Command(h.program(), "run", "-c", h.path("credagent.yaml")), environment...)
}

func (h *host) launch(t *testing.T, cmd *exec.Cmd, environment ...string) *process {
	t.Helper()
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + h.path("tmp")}, environment...)
	p := &process{agentprocess.Start(t, cmd)}
	h.newest = p
	t.Cleanup(p.Kill) // before it is asked to stop: the worst has to do
	return p
}

// ready waits for the agent to say that every token is in every sink.
func (h *host) ready(t *testing.T, p *process) {
	t.Helper()
	p.AwaitReady(h.listen)
}

func containsAll(line string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) })
}

// processes returns the host's processes of the program, providers too.
func (h *host) processes(t *testing.T) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	must(t, err)
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if exe, err := os.Readlink(filepath.Join("/proc", entry.Name(), "exe")); err == nil && exe == h.program() {
			found = append(found, pid)
		}
	}
	return found
}

// providers returns the providers' processes of an agent.
func (h *host) providers(t *testing.T, p *process) []int {
	t.Helper()
	return slices.DeleteFunc(h.processes(t), func(pid int) bool { return parent(pid) != p.PID() })
}

// parent reads the parent's number, which follows the name in parentheses and the state.
func parent(pid int) int {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
	return n
}

// temporaries lists the temporary files under a directory.
func temporaries(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if strings.HasPrefix(filepath.Base(path), ".credagent-") {
			found = append(found, path)
		}
		return err
	}))
	return found
}
