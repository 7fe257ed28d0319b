//go:build unix

package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// rig is a host of its own, with all that it leaves behind in sight.
type rig struct {
	*Host
	t       *testing.T
	sockets string
	log     *recorder
	starts  *atomic.Int32
}

// newRig makes a host whose limits are short only where change makes them so. At the end of the
// test no process and no socket of it may be left.
func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	sockets, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	r := &rig{t: t, sockets: sockets, log: &recorder{}, starts: &atomic.Int32{}}
	options := Options{
		IdleTimeout: time.Hour,
		Builtin:     []string{behaving, lying, versed, ahead},
		Log:         slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Started:     func(string, error) { r.starts.Add(1) },
		limits:      limits{start: 20 * time.Second, grace: 20 * time.Second, check: 20 * time.Second},
		sockets:     sockets,
	}
	if change != nil {
		change(&options)
	}
	r.Host = New(options)
	t.Cleanup(r.checkNothingLeft)
	return r
}

// process is the handle for one client; the test closes it.
func (r *rig) process(provider string, config any) *Process {
	r.t.Helper()
	encoded, err := json.Marshal(config)
	if err != nil {
		r.t.Fatal(err)
	}
	p := r.Process(Spec{Client: "app", Provider: provider, Config: encoded})
	r.t.Cleanup(p.Close)
	return p
}

// processes is how many processes the host has.
func (r *rig) processes() int {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	return len(r.pool.all)
}

// newest is the host's process that was started last.
func (r *rig) newest() (newest *instance) {
	r.t.Helper()
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	for in := range r.pool.all {
		if newest == nil || in.begun.After(newest.begun) {
			newest = in
		}
	}
	if newest == nil {
		r.t.Fatal("there is no process")
	}
	return newest
}

func (r *rig) checkNothingLeft() {
	waitUntil(r.t, "no process is left", func() bool { return len(r.left()) == 0 && !hasZombies() })
	entries, err := os.ReadDir(r.sockets)
	if err != nil || len(entries) != 0 {
		r.t.Errorf("left behind: %v, %v", entries, err)
	}
	if strings.Contains(r.log.String(), canary) {
		r.t.Errorf("the log shows a secret: %s", r.log)
	}
}

// left are the processes that have this rig's sockets in their environment.
func (r *rig) left() []string {
	var pids []string
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte("PLUGIN_UNIX_SOCKET_DIR="+r.sockets)) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

// hasZombies reports whether this process has a child that it does not reap.
func hasZombies() bool {
	children, _ := filepath.Glob("/proc/self/task/*/children")
	for _, path := range children {
		pids, _ := os.ReadFile(path)
		for _, pid := range strings.Fields(string(pids)) {
			if processState(pid) == "Z" {
				return true
			}
		}
	}
	return false
}

// processState is the letter of a process's state; "" when there is none.
func processState(pid string) string {
	data, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(data), ") ")
	return after[:min(1, len(after))]
}

// waitUntil asks often, and fails the test when the answer stays no.
func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(15 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Errorf("it did not come true that %s", what)
			return
		}
	}
}

// recorder keeps a log.
type recorder struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (r *recorder) Write(data []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(data)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

// startedPID is the number of the process that was started last.
func (r *rig) startedPID() int {
	r.t.Helper()
	text := r.log.String()
	line, _, _ := strings.Cut(text[max(0, strings.LastIndex(text, "pid=")):], "\n")
	pid, err := strconv.Atoi(strings.TrimPrefix(line, "pid="))
	if err != nil {
		r.t.Fatalf("no start in the log: %s", text)
	}
	return pid
}

// tokenServer answers every request with an empty object and counts them.
func tokenServer(t testing.TB) (Request, *atomic.Int32) {
	t.Helper()
	var requests atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		fmt.Fprint(w, "{}")
	}))
	t.Cleanup(s.Close)
	return Request{TokenEndpoint: s.URL, ClientID: "app", Form: url.Values{"grant_type": {"client_credentials"}}, Timeout: 20 * time.Second}, &requests
}

// mustFail checks that an error is a failure of the kind, and returns its message.
func mustFail(t *testing.T, err error, kind Kind) string {
	t.Helper()
	var failure *Failure
	if !errors.As(err, &failure) {
		t.Fatalf("error %v is no failure", err)
	}
	if failure.Kind != kind {
		t.Errorf("kind %d, want %d", failure.Kind, kind)
	}
	if strings.Contains(failure.Message, canary) || strings.ContainsAny(failure.Message, "\n\x1b") {
		t.Errorf("message %q", failure.Message)
	}
	return failure.Message
}

func mustExchange(t *testing.T, p *Process, r Request) Reply {
	t.Helper()
	reply, err := p.Exchange(t.Context(), r)
	if err != nil || reply.Status != http.StatusOK {
		t.Fatalf("Exchange: %+v, %v", reply, err)
	}
	return reply
}

func mustCheck(t *testing.T, p *Process) Credential {
	t.Helper()
	credential, problems, err := p.Check(t.Context(), true)
	if err != nil || len(problems) != 0 {
		t.Fatalf("Check: %v, %v", problems, err)
	}
	return credential
}

// executable writes a file that can be run at once: while it is open no other test may fork, or
// the fork would hold it open and the kernel would call it busy.
func executable(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	path := filepath.Join(dir, prefix+name)
	err := os.WriteFile(path, content, 0o755) //nolint:gosec // it is to be run
	// Both are as they should be, whatever the umask.
	if err := errors.Join(err, os.Chmod(path, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

// providersDir is a new directory for providers.
func providersDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "providers")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mustChmod(t, filepath.Dir(dir), 0o755) // whatever the umask
	return dir
}

// provide makes the external provider "faulty" of the rig, and returns its path.
func (r *rig) provide(content []byte) string {
	r.t.Helper()
	return executable(r.t, r.options.Dirs[0], "faulty", content)
}

func ownPath(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}

func script(body string) []byte { return []byte("#!/bin/sh\n" + body + "\n") }

// asProvider puts this test binary into a directory of providers: it is the behaving one then.
func asProvider(t *testing.T, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(ownPath(t))
	if err != nil {
		t.Fatal(err)
	}
	return executable(t, dir, name, content)
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
