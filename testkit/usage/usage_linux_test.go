package usage_test

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/credagent/credagent/testkit/usage"
)

func TestWhatThisProcessUses(t *testing.T) {
	before, err := usage.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	block, err := syscall.Mmap(-1, 0, 64<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(block) }()
	for i := 0; i < len(block); i += 4 << 10 {
		block[i] = 1
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	<-time.After(time.Millisecond) // which takes a switch
	after, err := usage.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if more := after.Anonymous - before.Anonymous; more < len(block)/2 || after.Resident < after.Anonymous {
		t.Errorf("%d bytes more, %d in all, for a block of %d", more, after.Resident, len(block))
	}
	if after.CPU <= before.CPU || after.Switches <= before.Switches {
		t.Errorf("work and waiting took %v and %d switches", after.CPU-before.CPU, after.Switches-before.Switches)
	}
	if after.Descriptors != before.Descriptors+1 || after.Threads < 2 {
		t.Errorf("%d more descriptors, %d threads", after.Descriptors-before.Descriptors, after.Threads)
	}
}

func TestChildren(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	children, err := usage.Children(os.Getpid())
	if err != nil || !slices.Contains(children, cmd.Process.Pid) {
		t.Errorf("children %d, %v, one is %d", children, err, cmd.Process.Pid)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := usage.Of(cmd.Process.Pid); err == nil {
		t.Error("a process that has ended uses something")
	}
}
