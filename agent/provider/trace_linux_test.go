package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is a user who is not root and owns nothing.
const nobody = 65534

// A provider keeps what it knows from other processes of its user, its parent's included, though
// the same ways are open to that user with any other process.
func TestProviderCannotBeTraced(t *testing.T) {
	t.Parallel()
	dir := providersDir(t)
	mustChmod(t, filepath.Dir(filepath.Dir(dir)), 0o755)
	self := asProvider(t, dir, "snoop") // where every user can run it
	sockets := filepath.Join(dir, "s")
	if err := os.Mkdir(sockets, 0o700); err != nil {
		t.Fatal(err)
	}
	snoop := exec.CommandContext(t.Context(), self, "snoop", sockets)
	snoop.Args[0] = "snoop" // not a provider's name
	var out, problems bytes.Buffer
	snoop.Stdout, snoop.Stderr = &out, &problems
	if os.Geteuid() == 0 {
		if err := os.Chown(sockets, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		snoop.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	if err := snoop.Run(); err != nil {
		t.Fatalf("%v: %s", err, &problems)
	}
	var seen struct{ Provider, Other map[string]string }
	if err := json.Unmarshal(out.Bytes(), &seen); err != nil || len(seen.Provider) == 0 {
		t.Fatalf("%v: %s", err, &out)
	}
	for way, failed := range seen.Other {
		if failed != "" {
			t.Skipf("this system lets nobody use %s: %s", way, failed)
		}
	}
	for way, failed := range seen.Provider {
		if failed != unix.EPERM.Error() && failed != unix.EACCES.Error() {
			t.Errorf("%s: %q", way, failed)
		}
	}
}

// beSnoop tries what a process of the same user may do with a provider, and with another process.
func beSnoop(sockets string) {
	runtime.LockOSThread() // a tracer is a thread
	started := make(chan string, 1)
	host := New(Options{
		Builtin: []string{behaving}, IdleTimeout: time.Hour, sockets: sockets,
		Log: slog.New(pidHandler{slog.DiscardHandler, started}),
	})
	provider := host.Process(Spec{Provider: behaving, Config: []byte("{}")})
	defer provider.Close()
	if _, _, err := provider.Check(context.Background(), true); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	other := exec.Command("/bin/sleep", "300")
	if err := other.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	pid, _ := strconv.Atoi(<-started)
	_ = json.NewEncoder(os.Stdout).Encode(map[string]map[string]string{
		"Provider": pry(pid), "Other": pry(other.Process.Pid),
	})
	_ = other.Process.Kill()
	_ = other.Wait()
}

// pry tries the ways into another process, and says how each fails; "" where it does not.
func pry(pid int) map[string]string {
	proc := fmt.Sprintf("/proc/%d/", pid)
	ways := map[string]func() error{
		"reading its memory":          func() error { return tryOpen(proc + "mem") },
		"reading its environment":     func() error { return tryOpen(proc + "environ") },
		"reading its memory's map":    func() error { return tryOpen(proc + "maps") },
		"looking into its descriptor": func() error { return tryOpen(proc + "fd/0") },
		"process_vm_readv":            func() error { return readMemory(pid) },
		"pidfd_getfd":                 func() error { return takeDescriptor(pid) },
		"ptrace":                      func() error { return attach(pid) },
	}
	failed := map[string]string{}
	for way, try := range ways {
		failed[way] = text(try())
	}
	return failed
}

func tryOpen(path string) error {
	file, err := os.Open(path)
	if err == nil {
		_, err = file.Read(make([]byte, 0))
		_ = file.Close()
	}
	return err
}

// readMemory copies the first byte of a process's memory, or any if nobody says where that is.
func readMemory(pid int) error {
	var at uintptr = 1 << 20
	if maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid)); err == nil {
		_, _ = fmt.Sscanf(string(maps), "%x-", &at)
	}
	var first [1]byte
	local := unix.Iovec{Base: &first[0]}
	local.SetLen(len(first))
	_, err := unix.ProcessVMReadv(pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: at, Len: len(first)}}, 0)
	return err
}

func takeDescriptor(pid int) error {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(process)
	fd, err := unix.PidfdGetfd(process, 0, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

func attach(pid int) error {
	if err := unix.PtraceAttach(pid); err != nil {
		return err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	return unix.PtraceDetach(pid)
}

// text is an error without what it was about.
func text(err error) string {
	var inPath *os.PathError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &inPath):
		return inPath.Err.Error()
	}
	return err.Error()
}
