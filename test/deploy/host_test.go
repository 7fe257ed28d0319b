//go:build linux

package deploy_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/test/nspawn"
	"github.com/credagent/credagent/testkit/agentprocess"
)

const (
	root          = "../.."
	deployed      = root + "/deploy"
	serverAddress = "127.0.0.1:8080"
	serverURL     = "http://" + serverAddress
	canary        = "canary-secret-7e1a90"
	appToken      = "/run/credagent/app.token"
	// noteToken is how the application shows which token it has.
	noteToken = "/bin/sh -c 'cat " + appToken + " >" + noted + "'"
	noted     = "/run/app/noted"
	// calm is a life of tokens in which no test sees a refresh, brisk one in which every test does.
	calm  = time.Hour
	brisk = 12 * time.Second
)

// scratch is a directory of the whole run, set before any test and not changed after.
var scratch string

func TestMain(m *testing.M) {
	os.Exit(inScratch(m))
}

func inScratch(m *testing.M) int {
	dir, err := os.MkdirTemp("", "credagent-deploy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	scratch = dir
	return m.Run()
}

// program builds credagent when it is first needed.
var program = sync.OnceValues(func() (string, error) { return agentprocess.Credagent(scratch) })

// host is a booted machine with an authorization server in its network.
type host struct {
	*nspawn.Guest
	t      *testing.T
	server *devserver.Server
}

// needE2E skips what takes long and changes the machine it runs on.
func needE2E(t *testing.T) {
	t.Helper()
	if os.Getenv("E2E") == "" {
		t.Skip("booting a machine needs root and minutes: run make e2e")
	}
}

// newHost boots a machine with the users that docs/systemd.md speaks of, and nothing of credagent.
func newHost(t *testing.T, ttl time.Duration, faults ...devserver.Fault) *host {
	t.Helper()
	needE2E(t)
	h := &host{Guest: nspawn.Boot(t), t: t}
	h.serve(ttl, faults)
	for _, user := range []string{"app", "other", "worker"} {
		h.Run("systemd-sysusers", "--inline", "u "+user+" -")
	}
	h.Write("/root/credagent/payments.secret", canary, 0o600)
	h.Write("/root/web.secret", canary, 0o600)
	return h
}

// fromCheckout boots a machine with a checkout of credagent in which make build has run, but where
// nothing of it has been installed.
func fromCheckout(t *testing.T, ttl time.Duration, faults ...devserver.Fault) *host {
	t.Helper()
	h := newHost(t, ttl, faults...)
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	h.Copy(binary, "/root/credagent/bin/credagent", 0o755)
	err = fs.WalkDir(os.DirFS(deployed), "systemd", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			h.Copy(filepath.Join(deployed, path), "/root/credagent/deploy/"+path, 0o644)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) serve(ttl time.Duration, faults []devserver.Fault) {
	h.t.Helper()
	server, err := devserver.New(devserver.Options{Listen: serverAddress, TTL: ttl, Faults: faults, Clients: []devserver.Client{
		{ID: "payments", Secret: secret.New(canary)}, {ID: "web", Secret: secret.New(canary)},
	}})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.InNetwork(server.Start); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = server.Close() })
	h.server = server
}

// setUp follows docs/systemd.md up to a heading, and does nothing else.
func (h *host) setUp(before string) {
	h.t.Helper()
	h.followSections("Install", before)
}

// followSections follows docs/systemd.md from one heading to another.
func (h *host) followSections(from, before string) {
	h.t.Helper()
	_, text, found := strings.Cut(read(h.t, document), "\n## "+from+"\n")
	text, _, ends := strings.Cut(text, "\n## "+before+"\n")
	if !found || !ends {
		h.t.Fatalf("%s has no heading %q, or no %q after it", document, from, before)
	}
	h.follow(text)
}

// started sets the agent up as documented, with the life of tokens given, and starts it.
func started(t *testing.T, ttl time.Duration) *host {
	t.Helper()
	h := fromCheckout(t, ttl)
	h.setUp("An application that needs its token")
	return h
}

// application is a service of the user app that waits for its token as documented.
func (h *host) application(lines ...string) {
	h.t.Helper()
	lines = append([]string{"[Service]", "User=app", "RuntimeDirectory=app"}, lines...)
	h.Write("/etc/systemd/system/app.service", strings.Join(lines, "\n")+"\n", 0o644)
	h.Shell("mkdir /etc/systemd/system/app.service.d; ln -s /usr/lib/credagent/wait-for-token.conf /etc/systemd/system/app.service.d/; systemctl daemon-reload")
}

// property is one of a unit's.
func (h *host) property(unit, name string) string {
	h.t.Helper()
	return h.Run("systemctl", "show", "--value", "--property="+name, unit)
}

func (h *host) mainPID() int {
	h.t.Helper()
	pid, err := strconv.Atoi(h.property("credagent", "MainPID"))
	if err != nil || pid == 0 {
		h.t.Fatalf("credagent has no process: %v", err)
	}
	return pid
}

// restarted waits until systemd has started the agent again and it is ready.
func (h *host) restarted() {
	h.t.Helper()
	h.Await("credagent starts again", func() bool { return h.property("credagent", "NRestarts") != "0" })
	h.Await("credagent is ready again", func() bool { return h.property("credagent", "ActiveState") == "active" })
}

// dropIn changes a unit from its next start on.
func (h *host) dropIn(unit, name, lines string) {
	h.t.Helper()
	h.Write("/etc/systemd/system/"+unit+".d/"+name+".conf", "[Service]\n"+lines+"\n", 0o644)
	h.Run("systemctl", "daemon-reload")
}

// replaceInConfig changes the configuration without notifying the agent.
func (h *host) replaceInConfig(old, replacement string) {
	h.t.Helper()
	const name = "/etc/credagent/credagent.yaml"
	text := read(h.t, h.Path(name))
	if !strings.Contains(text, old) {
		h.t.Fatalf("the configuration has no %q", old)
	}
	h.Write(name, strings.Replace(text, old, replacement, 1), 0o644)
}

// requests is how many token requests the server has seen.
func (h *host) requests() int { return len(h.server.Requests()) }

func (h *host) wantRequests(want int) {
	h.t.Helper()
	if got := h.requests(); got != want {
		h.t.Errorf("the server has seen %d token requests, want %d", got, want)
	}
}

// wantToken checks that a file of the guest holds nothing but a token that the server accepts.
func (h *host) wantToken(path string) {
	h.t.Helper()
	if content := read(h.t, h.Path(path)); !h.server.Valid(content) {
		h.t.Errorf("%s holds no valid token but %d bytes", path, len(content))
	}
}

// reader reads a token over and over, as an impatient application would.
type reader struct {
	reads, bad atomic.Int64
	problem    atomic.Pointer[string]
	ended      chan struct{}
	running    sync.WaitGroup
}

// watch has a reader read a token until the returned function is called, which fails the test if
// the token was ever missing, torn or not valid.
func (h *host) watch(path string) (stop func()) {
	h.t.Helper()
	r := &reader{ended: make(chan struct{})}
	r.running.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-r.ended:
				return
			case <-tick.C:
				r.look(h.Path(path), h.server)
			}
		}
	})
	return func() {
		h.t.Helper()
		close(r.ended)
		r.running.Wait()
		if r.bad.Load() > 0 || r.reads.Load() < 100 {
			h.t.Errorf("%d of %d reads of %s went wrong, the last because %s", r.bad.Load(), r.reads.Load(), path, *r.problem.Load())
		}
	}
}

func (r *reader) look(path string, server *devserver.Server) {
	content, err := os.ReadFile(path)
	if err == nil && !server.Valid(string(content)) {
		err = errors.New("it is no valid token")
	}
	r.reads.Add(1)
	if err != nil {
		r.bad.Add(1)
		said := err.Error()
		r.problem.Store(&said)
	}
}
