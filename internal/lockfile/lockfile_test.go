//go:build unix

package lockfile_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/credagent/credagent/internal/lockfile"
)

const holderEnv = "LOCKFILE_TEST_HOLD"

// TestMain is the other process too: it holds the lock "a" of a file until its input ends.
func TestMain(m *testing.M) {
	path := os.Getenv(holderEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = lockfile.New(file).Lock("a")
	}
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString("held\n")
	io.Copy(io.Discard, os.Stdin)
}

func hold(t *testing.T, path string) (holder *exec.Cmd) {
	t.Helper()
	holder = exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), holderEnv+"="+path)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	return holder
}

func open(t *testing.T, path string) *lockfile.File {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f := lockfile.New(file)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLockNamesTheProcessThatHoldsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder := hold(t, path)
	f := open(t, path)
	err := f.Lock("a")
	var held *lockfile.HeldError
	if !errors.As(err, &held) || held.PID != holder.Process.Pid {
		t.Fatalf("Lock = %v, want it held by process %d", err, holder.Process.Pid)
	}
	if err := f.Lock("b"); err != nil {
		t.Errorf("another name: %v", err)
	}
}

func TestLockEndsWithItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	holder := hold(t, path)
	f := open(t, path)
	_ = holder.Process.Kill()
	_ = holder.Wait()
	if err := f.Lock("a"); err != nil {
		t.Errorf("after the holder was killed: %v", err)
	}
}

func TestUnlockCountsAsOftenAsLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f := open(t, path)
	for range 2 {
		if err := f.Lock("a"); err != nil {
			t.Fatal(err)
		}
	}
	f.Unlock("a")
	if !heldElsewhere(t, path) {
		t.Error("the lock ended at the first of two unlocks")
	}
	f.Unlock("a")
	if heldElsewhere(t, path) {
		t.Error("the lock is still held after the last unlock")
	}
}

// heldElsewhere reports whether another process finds the lock "a" held.
func heldElsewhere(t *testing.T, path string) bool {
	t.Helper()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), holderEnv+"="+path)
	return other.Run() != nil
}
