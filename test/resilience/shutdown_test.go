//go:build linux

package resilience_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/internal/devserver"
)

// stopLimit is within what time SIGTERM ends the agent, whatever it is doing.
const stopLimit = 5 * time.Second

// hang mounts a file system that never answers over a directory. Whoever asks it for something
// waits until killed.
func (h *host) hang(t *testing.T, name string) {
	t.Helper()
	needRoot(t)
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		t.Skip("no FUSE: that a file system that hangs holds nothing up is NOT shown here")
	}
	must(t, err)
	dir := h.path(name)
	must(t, unix.Mount("credagent-test", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device.Fd())))
	t.Cleanup(func() {
		must(t, device.Close()) // ends the waits
		must(t, unix.Unmount(dir, unix.MNT_DETACH))
	})
}

// stopStates bring the agent into the state in which it is told to stop.
var stopStates = map[string]struct {
	before func(t *testing.T, h *host)             // before the start
	during func(t *testing.T, h *host, p *process) // until it is in that state
}{
	"starting": {
		during: func(*testing.T, *host, *process) {
			<-time.After(time.Duration(rand.Int64N(int64(100 * time.Millisecond))))
		},
	},
	"starting while the sinks hang": {
		before: func(t *testing.T, h *host) { h.hang(t, "sinks") },
		during: aMoment,
	},
	"starting while the state hangs": {
		before: func(t *testing.T, h *host) {
			must(t, os.Mkdir(h.path("state"), 0o700))
			h.hang(t, "state")
		},
		during: aMoment,
	},
	"starting while the credential hangs": {
		before: func(t *testing.T, h *host) { h.hang(t, "credential") },
		during: aMoment,
	},
	"waiting for the first answer": {
		before: func(t *testing.T, h *host) { must(t, h.server.Inject(devserver.Fault{Kind: devserver.Stall})) },
		during: inFlight,
	},
	"idle": {during: readyOne},
	"waiting for an answer": {
		during: func(t *testing.T, h *host, p *process) {
			readyOne(t, h, p)
			must(t, h.server.Inject(devserver.Fault{Kind: devserver.Stall}))
			inFlight(t, h, p)
		},
	},
	"the provider hangs": {
		during: func(t *testing.T, h *host, p *process) {
			readyOne(t, h, p)
			must(t, h.server.Inject(devserver.Fault{Kind: devserver.Stall}))
			inFlight(t, h, p)
			for _, pid := range h.providers(t, p) {
				must(t, syscall.Kill(pid, syscall.SIGSTOP))
			}
		},
	},
	"the sinks hang": {
		during: func(t *testing.T, h *host, p *process) {
			readyOne(t, h, p)
			h.hang(t, "sinks")
			until(t, "there is something to write", func() bool { return p.Log.Count(`"token refreshed"`) > 0 })
		},
	},
	"the state hangs": {
		during: func(t *testing.T, h *host, p *process) {
			readyOne(t, h, p)
			h.hang(t, "state")
			until(t, "there is something to save", func() bool { return p.Log.Count("although the state directory does not answer") > 0 })
		},
	},
	"the credential hangs": {
		during: func(t *testing.T, h *host, p *process) {
			readyOne(t, h, p)
			h.hang(t, "credential")
			requests := len(h.server.Requests())
			until(t, "a request fails", func() bool { return p.Log.Count(`"token request failed"`) > 0 })
			if len(h.server.Requests()) > requests+1 {
				t.Error("there are requests without a credential")
			}
		},
	},
	"throttled": {
		during: func(t *testing.T, h *host, p *process) {
			readyOne(t, h, p)
			must(t, h.server.Inject(devserver.Fault{Kind: devserver.Throttle, RetryAfter: "300"}))
			until(t, "the gate is closed", func() bool { return p.Log.Count(`"token request failed"`, `"retry_after"`) > 0 })
		},
	},
}

func readyOne(t *testing.T, h *host, p *process) {
	t.Helper()
	h.ready(t, p)
}

// aMoment lets a start that hangs get as far as it does.
func aMoment(*testing.T, *host, *process) { <-time.After(500 * time.Millisecond) }

// inFlight waits for the server to have one request more.
func inFlight(t *testing.T, h *host, _ *process) {
	t.Helper()
	before := len(h.server.Requests())
	until(t, "a request is under way", func() bool {
		requests := h.server.Requests()
		return len(requests) > before || before > 0 && requests[before-1].Fault == string(devserver.Stall)
	})
}

// TestStopsInTime stops the agent in every state that it can be in.
func TestStopsInTime(t *testing.T) {
	t.Parallel()
	for name, state := range stopStates {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, devserver.Options{TTL: faultLife, RefreshIn: faultEvery})
			must(t, os.Mkdir(h.path("credential"), 0o700))
			h.write(t, "credential/secret", canary)
			h.configureStop(t)
			if state.before != nil {
				state.before(t, h)
			}
			p := h.start(t)
			state.during(t, h, p)
			h.stopsInTime(t, p)
		})
	}
}

// configureStop configures one token and many sinks, so that hanging takes every thread that would
// hear of a signal.
func (h *host) configureStop(t *testing.T) {
	t.Helper()
	text := h.preamble() + fmt.Sprintf(`clients:
  app: { token_url: %q, client_id: app, request_timeout: 2s, credential: { provider: secretcred, config: { secret_file: %s } } }
tokens: { t: { client: app, scopes: [read] } }
sinks:
`, h.server.TokenURL(), h.path("credential/secret"))
	for i := range 20 {
		text += fmt.Sprintf("  - { type: file, token: t, path: %s/token%d }\n", h.path("sinks"), i)
	}
	h.write(t, "credagent.yaml", text)
}

func (h *host) stopsInTime(t *testing.T, p *process) {
	t.Helper()
	asked := time.Now()
	p.Terminate()
	select {
	case <-p.Ended():
	case <-time.After(stopLimit):
		t.Errorf("it runs on after %v", stopLimit)
		_ = p.Cmd.Process.Signal(syscall.SIGABRT) // the log tells what it waits for
		<-p.Ended()
		return
	}
	took := time.Since(asked)
	status := p.ProcessState.Sys().(syscall.WaitStatus)
	early := p.Log.Count("") == 0 && status.Signaled() && status.Signal() == syscall.SIGTERM
	forced := p.Log.Count("something does not answer") == 1 && status.ExitStatus() == 75
	if !p.ProcessState.Success() && !early && !forced {
		t.Errorf("it ends with %s", p.ProcessState)
	}
	until(t, "no process is left", func() bool { return len(h.processes(t)) == 0 })
	t.Logf("ended after %v, its last process %v later", took.Round(time.Millisecond), (time.Since(asked) - took).Round(time.Millisecond))
	if all := time.Since(asked); all > stopLimit {
		t.Errorf("its last process ended after %v", all)
	}
}

// TestFirstThreadDoesNoWork looks at a dump of an idle agent. Were the first thread free to call a
// file system that hangs, SIGTERM would now and then be heard by nobody.
func TestFirstThreadDoesNoWork(t *testing.T) {
	t.Parallel()
	h := newHost(t, devserver.Options{})
	h.configureOne(t, "", "")
	p := h.start(t)
	h.ready(t, p)
	must(t, p.Cmd.Process.Signal(syscall.SIGABRT))
	<-p.Ended()
	if p.Log.Count("goroutine 1 ", "chan receive", "locked to thread") != 1 {
		t.Errorf("the first goroutine does not hold the first thread:\n%s", p.Log.Last(100))
	}
}
