package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/credagent/credagent/internal/handshake"
	"github.com/credagent/credagent/internal/process"
)

// child runs a provider's executable for go-plugin. Unlike go-plugin's own runner it gives the process only one
// descriptor, the lifeline, only the environment that it needs, and keeps the terminal's signals from it.
type child struct {
	cmd        *exec.Cmd
	executable *os.File // open while the child starts from sealed memory; else nil
	keys       handshake.Keys
	lifeline   *os.File // the agent's end; closing it ends the child
	socketDir  string   // made by go-plugin
	stdout     io.ReadCloser
	stderr     *process.LineLog
	guarded    bool           // processes that it starts must not outlive the agent either
	guard      *process.Guard // nil for none; set before the process is waited for
	over       chan struct{}  // closed when the process has ended, before it is reaped

	mu     sync.Mutex
	begun  bool // guarded by mu, as are ended and killed
	ended  bool
	killed bool
}

// Start implements runner.Runner.
func (c *child) Start(context.Context) error {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making the lifeline: %w", err)
	}
	defer theirs.Close()
	if c.executable != nil {
		defer c.executable.Close()
	}
	c.lifeline = ours
	c.cmd.ExtraFiles = []*os.File{theirs} // becomes handshake.LifelineFD
	c.cmd.Stderr = c.stderr
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		_ = ours.Close()
		return fmt.Errorf("making a pipe: %w", err)
	}
	launched := make(chan error, 1)
	go c.live(launched)
	if err := <-launched; err != nil {
		_ = ours.Close()
		return err
	}
	return c.keys.Send(ours)
}

// live starts the process and waits for its end, on one locked thread: when that thread ends, the kernel kills the
// process, and an unlocked thread could end before the agent does.
func (c *child) live(launched chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.launch()
	launched <- err
	if err == nil {
		c.oversee()
	}
}

// oversee waits for the process to end and kills the processes that it has left running, which would keep its output
// open and so hide the end. It does so before the process is reaped, because after that its id may be reused.
func (c *child) oversee() {
	defer close(c.over)
	if process.AwaitExit(c.cmd.Process) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ended = true
		process.KillGroup(c.cmd.Process)
	}
}

// launch starts the process unless it was killed before its start.
func (c *child) launch() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.killed {
		return context.Canceled
	}
	err := process.Start(c.cmd)
	c.begun = err == nil
	if err != nil || !c.guarded {
		return err
	}
	if c.guard, err = process.StartGuard(c.cmd.Process); err != nil {
		process.KillGroup(c.cmd.Process)
		go func() { _ = process.Wait(c.cmd) }()
		c.begun = false
	}
	return err
}

// Wait implements runner.Runner.
func (c *child) Wait(context.Context) error {
	<-c.over
	if c.guard != nil {
		c.guard.End()
	}
	err := process.Wait(c.cmd)
	_ = c.lifeline.Close()
	c.stderr.Finish()
	return err
}

// Kill implements runner.Runner. A provider has nothing to finish, so it does not wait. Processes that the provider
// left running must not delay its end, so the pipe is closed too.
func (c *child) Kill(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed = true
	if !c.begun {
		return nil
	}
	if !c.ended {
		process.KillGroup(c.cmd.Process)
	}
	_ = c.stdout.Close()
	return nil
}

// Stdout implements runner.Runner.
func (c *child) Stdout() io.ReadCloser { return c.stdout }

// Stderr implements runner.Runner: go-plugin gets nothing, because it would log without limit.
func (c *child) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name implements runner.Runner.
func (c *child) Name() string { return c.cmd.Args[0] }

// ID implements runner.Runner.
func (c *child) ID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.begun {
		return ""
	}
	return strconv.Itoa(c.cmd.Process.Pid)
}

// Diagnose implements runner.Runner.
func (c *child) Diagnose(context.Context) string { return "" }

// PluginToHost implements runner.Runner: both sides see one file system. An address outside the directory made for
// this process is refused.
func (c *child) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" || filepath.Dir(address) != filepath.Clean(c.socketDir) {
		return "", "", errors.New("it listens elsewhere than on a socket in its own directory")
	}
	return network, address, nil
}

// HostToPlugin implements runner.Runner.
func (c *child) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
