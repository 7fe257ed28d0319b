package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSignalsEndReading sends signals to commands whose standard input never ends.
func TestSignalsEndReading(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"init": {[]string{"init", "generic", "--issuer", "https://login.example.com", "--client-id", "app", "--credential", "secret",
			"--user", me(t), "--dir", dir + "/etc", "--file", dir + "/run/app.token"}, "ended; nothing was made"},
		"challenge":      {[]string{"challenge", "app"}, "reading the challenge: interrupted"},
		"git-credential": {[]string{"token", "app", "get", "--format", "git-credential"}, "reading what git asks for: interrupted"},
	} {
		for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT} {
			t.Run(name+"/"+unix.SignalName(s), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				cmd := exec.CommandContext(ctx, os.Args[0], c.args...)
				cmd.Env = append(os.Environ(), selfVariable+"=1")
				var said bytes.Buffer
				cmd.Stdout, cmd.Stderr = &said, &said
				startReading(t, cmd)
				if err := cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait()
				if code := cmd.ProcessState.ExitCode(); code != exitUsage || !strings.Contains(said.String(), c.want) || strings.Contains(said.String(), "goroutine") {
					t.Errorf("it ends with %v and says %q", cmd.ProcessState, &said)
				}
			})
		}
	}
	if left := tree(t, dir); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

// startReading starts a command and returns once it reads its standard input, which stays open: more is
// written than a pipe holds.
func startReading(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	far, near, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	holds, err := unix.FcntlInt(near.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize())
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = far
	err = cmd.Start()
	_ = far.Close() // the command has its own: where it ends early, the writing fails
	if err == nil {
		_, err = io.WriteString(near, strings.Repeat("a=b\n", holds/4+1))
	}
	if err != nil {
		t.Fatal(err)
	}
}
