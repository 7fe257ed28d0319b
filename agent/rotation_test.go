package agent

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/internal/filewatch"
)

// told is a file watcher whose changes the test tells.
type told struct{ changes chan fsnotify.Event }

func (told) Add(string) error                 { return nil }
func (w told) Changes() <-chan fsnotify.Event { return w.changes }
func (told) Failures() <-chan error           { return nil }
func (told) Close() error                     { return nil }
func (w told) tell()                          { w.changes <- fsnotify.Event{Name: "credential", Op: fsnotify.Write} }
func replace(t *testing.T, path, text string) { putFile(t, path+".new", text); rename(t, path) }

func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, path string) {
	t.Helper()
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// rotating is a fixture whose credential is a file, read by its provider's check.
type rotating struct {
	*fixture
	server *server
	path   string

	mu  sync.Mutex
	bad error // guarded by mu: what loading says
}

func newRotating(t *testing.T, watch filewatch.Notifier, answer func(int, arrival) (provider.Reply, error)) *rotating {
	r := &rotating{server: &server{answer: answer}, path: filepath.Join(t.TempDir(), "credential")}
	putFile(t, r.path, "first")
	f := newFixture(r.server.exchange, "a", "b")
	f.check = func() (provider.Credential, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		data, err := os.ReadFile(r.path)
		return provider.Credential{Files: []string{r.path}, Identity: string(data)}, errors.Join(err, r.bad)
	}
	f.watch = watch
	r.fixture = remade(f, r.server, f.agent.parts.config())
	if err := r.agent.Check(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRotatedCredentialIsProvedEarly(t *testing.T) {
	tests := []struct {
		name   string
		watch  filewatch.Notifier
		within time.Duration
	}{
		{"when the system tells of the change", told{make(chan fsnotify.Event)}, filewatch.SettleTime + proveWithin + time.Second},
		{"when it does not", nil, checkEvery + proveWithin + time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				watch := test.watch
				if watch != nil {
					watch = told{make(chan fsnotify.Event)} // of this bubble
				}
				r := newRotating(t, watch, good)
				stop := r.run(t.Context())
				defer stop()
				pass(time.Minute)
				replace(t, r.path, "second")
				if w, ok := watch.(told); ok {
					w.tell()
				}
				pass(test.within)
				if got := len(r.server.requests()); got != 3 {
					t.Errorf("%d requests, want one for each token and one as proof", got)
				}
				pass(2 * time.Minute)
				if got := len(r.server.requests()); got != 3 {
					t.Errorf("%d requests long after, want no more", got)
				}
			})
		})
	}
}

func TestTouchedCredentialIsNotProved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRotating(t, nil, good)
		stop := r.run(t.Context())
		defer stop()
		pass(time.Minute)
		replace(t, r.path, "first")
		pass(2 * time.Minute)
		if got := len(r.server.requests()); got != 2 {
			t.Errorf("%d requests, want 2: the credential is the same", got)
		}
	})
}

func TestHalfWrittenCredentialWaitsForTheNextChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRotating(t, nil, good)
		stop := r.run(t.Context())
		defer stop()
		pass(time.Minute)
		r.mu.Lock()
		r.bad = errors.New("no certificate matches the private key")
		r.mu.Unlock()
		replace(t, r.path, "half")
		pass(5 * time.Minute)
		if got := len(r.server.requests()); got != 2 {
			t.Errorf("%d requests with half a pair, want 2", got)
		}
		r.mu.Lock()
		r.bad = nil
		r.mu.Unlock()
		replace(t, r.path, "whole")
		pass(time.Minute)
		if got := len(r.server.requests()); got != 3 {
			t.Errorf("%d requests with the whole pair, want 3", got)
		}
	})
}

func TestRotationEndsASlowProbeButNoRetryAfter(t *testing.T) {
	tests := []struct {
		name     string
		first    provider.Reply
		requests int // two minutes later
	}{
		{"slow probe", refusal(http.StatusUnauthorized, "invalid_client", ""), 3},
		{"Retry-After", refusal(http.StatusUnauthorized, "invalid_client", "3600"), 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refused := true
				r := newRotating(t, nil, func(n int, a arrival) (provider.Reply, error) {
					if refused {
						refused = false
						return test.first, nil
					}
					return granted(fmt.Sprintf("token-%d", n), time.Hour), nil
				})
				stop := r.run(t.Context())
				defer stop()
				pass(10 * time.Second)
				replace(t, r.path, "second")
				pass(45 * time.Second) // less than the slow probe's first wait
				if got := len(r.server.requests()); got != test.requests {
					t.Errorf("%d requests, want %d", got, test.requests)
				}
			})
		})
	}
}
