package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// capable makes this test binary an unprivileged process with ambient capabilities, which says what
// those that it starts have of them, and what it has itself afterwards.
const capable = "capable"

// showAmbient is a program that says which ambient capabilities it has.
const showAmbient = "grep ^CapAmb: /proc/self/status"

func TestAmbientCapabilitiesAreNotPassedOn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("having capabilities to pass on needs root")
	}
	dir, err := os.MkdirTemp("", "ambient")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "process.test")
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Dir = "/"
	cmd.Env = []string{adopterVariable + "=" + capable, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: 4001, Gid: 4001},
		AmbientCaps: []uintptr{unix.CAP_CHOWN, unix.CAP_NET_BIND_SERVICE},
	}
	out, err := cmd.CombinedOutput()
	none, both := "CapAmb:\t0000000000000000\n", "CapAmb:\t0000000000000401\n"
	if want := "private " + none + "heir " + both + "private " + none; err != nil || string(out) != want {
		t.Errorf("it says %q, %v; want %q", out, err, want)
	}
}

// beCapable is what the process of [capable] does.
func beCapable() {
	private := func() {
		var out bytes.Buffer
		if err := Run(context.Background(), shell(showAmbient), &out); err != nil {
			fmt.Println(err)
		}
		fmt.Print("private ", out.String())
	}
	private()
	h, err := StartHeir(shell("printf 'heir '; "+showAmbient), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	h.Wait()
	private()
}

// The kernel lets only root look into a process that hides its memory, and gives root what belongs to
// it in /proc.
func TestHideMemory(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = []string{adopterVariable + "=hiding"}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "dumpable 0, a child of it 1, <nil>" {
		t.Errorf("it says %q, %v", out, err)
	}
}

func hide() {
	if err := HideMemory(); err != nil {
		fmt.Println(err)
	}
	own, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	path, _ := Self()
	var out bytes.Buffer
	err := Run(context.Background(), Command{Path: path, Args: []string{"child"}, Env: []string{adopterVariable + "=dumpable"}}, &out)
	fmt.Printf("dumpable %d, a child of it %s, %v\n", own, strings.TrimSpace(out.String()), err)
}

func showDumpable() {
	own, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	fmt.Println(own)
}
