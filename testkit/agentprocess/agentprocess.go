// Package agentprocess runs credagent as a separate process, for tests of the whole program: it
// builds it as it is shipped, starts it, waits for it, keeps its log and ends it with the test.
//
// One caveat: everything is built from the checkout that the test runs in.
package agentprocess

import (
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience limits every wait for a process.
const patience = time.Minute

// Process is a started agent, or another program.
type Process struct {
	*exec.Cmd
	Log   *Log // its output, unless the command redirects it
	t     testing.TB
	ended chan struct{} // closed when it has ended and all its output was read
}

// Start starts a command. It is terminated with the test, and its log shown if that failed.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, Log: &Log{}, t: t, ended: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = p.Log
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p.Log
	}
	cmd.Env = withRuntimeDirectory(t, cmd.Environ())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // the result is in ProcessState
	}()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("the log of %s ends with\n%s", cmd.Path, p.Log.Last(50))
		}
	})
	return p
}

// withRuntimeDirectory gives the processes of a test their own runtime directory, unless they have one: a wait from
// one test must not apply in another that uses the same port.
func withRuntimeDirectory(t testing.TB, env []string) []string {
	const name = "RUNTIME_DIRECTORY="
	for _, variable := range env {
		if strings.HasPrefix(variable, name) {
			return env
		}
	}
	return append(env, name+filepath.Join(filepath.Dir(t.TempDir()), "run"))
}

// PID returns the process id.
func (p *Process) PID() int { return p.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// HasEnded reports whether the process has ended.
func (p *Process) HasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Terminate asks the process to stop.
func (p *Process) Terminate() { _ = p.Process.Signal(syscall.SIGTERM) }

// Stop asks the process to stop, waits for its end and returns its exit status. If it does not end, it is killed and
// the test fails. It may have ended already.
func (p *Process) Stop() int {
	p.t.Helper()
	p.Terminate()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.t.Errorf("%s has not ended within %v of being told to\n%s", p.Path, patience, p.Log.Last(50))
		p.Kill()
	}
	return p.ProcessState.ExitCode()
}

// Kill kills the process and waits for its end. It may have ended already.
func (p *Process) Kill() {
	_ = p.Process.Kill()
	<-p.ended
}

// AwaitReady waits until the agent that listens at the address reports that every token is in every sink.
func (p *Process) AwaitReady(address string) {
	p.t.Helper()
	p.Await("the agent is ready", func() bool { return Ready(address) })
}

// Await waits until so returns true. It fails the test if the process ends before.
func (p *Process) Await(what string, so func() bool) {
	p.t.Helper()
	Until(p.t, what, func() bool {
		if p.HasEnded() && !so() {
			p.t.Fatalf("%s: %s has ended (%s)\n%s", what, p.Path, p.ProcessState, p.Log.Last(50))
		}
		return so()
	})
}

// Ready reports whether the agent that listens at the address is ready.
func Ready(address string) bool {
	response, err := http.Get("http://" + address + "/readyz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Until waits until so returns true, for a limited time.
func Until(t testing.TB, what string, so func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// FreeAddress returns an unused address of the loopback interface.
func FreeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
