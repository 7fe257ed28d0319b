//go:build linux

package nspawn

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// searchPath is where programs are, on both sides.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// command is a command in the guest, as root and outside any unit.
func (g *Guest) command(ctx context.Context, command ...string) *exec.Cmd {
	enter := []string{"-t", strconv.Itoa(g.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, command...)...)
	cmd.Env = []string{"PATH=" + searchPath, "LANG=C.UTF-8", "SYSTEMD_COLORS=0"}
	cmd.Dir = "/"
	return cmd
}

// Try runs a command in the guest and returns all that it printed.
func (g *Guest) Try(command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), Patience)
	defer cancel()
	out, err := g.command(ctx, command...).CombinedOutput()
	return string(bytes.TrimSpace(out)), err
}

// Run runs a command in the guest, which must succeed, and returns what it printed.
func (g *Guest) Run(command ...string) string {
	g.t.Helper()
	out, err := g.Try(command...)
	if err != nil {
		g.t.Fatalf("running %q in the guest: %v\n%s", command, err, out)
	}
	return out
}

// Shell runs a script in the guest, whose every command must succeed.
func (g *Guest) Shell(script string) string {
	g.t.Helper()
	return g.Run("sh", "-euc", script)
}

// Await waits until something holds.
func (g *Guest) Await(what string, holds func() bool) {
	g.t.Helper()
	deadline, tick := time.After(Patience), time.NewTicker(poll)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			g.t.Fatalf("%s: not within %v", what, Patience)
		}
	}
}

// InNetwork calls f on a thread that is in the guest's network, so that a socket made there is the
// guest's, and stays so.
func (g *Guest) InNetwork(f func() error) error {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer own.Close()
	guest, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", g.leader))
	if err != nil {
		return err
	}
	defer guest.Close()
	if err := unix.Setns(int(guest.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the guest's network: %w", err)
	}
	failed := f()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("leaving the guest's network: %w", err) // the thread ends with its goroutine
	}
	runtime.UnlockOSThread()
	return failed
}
