package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/testkit/leaktest"
)

// adopterVariable makes the test binary be a process that gets orphans, and says what it does.
const adopterVariable = "PROCESS_TEST_ADOPTER"

func TestMain(m *testing.M) {
	switch os.Getenv(adopterVariable) {
	case "":
		os.Exit(leaktest.Main(m))
	case "reaping":
		adopt(true)
	case capable:
		beCapable()
	case "hiding":
		hide()
	case "dumpable":
		showDumpable()
	case "idle":
		adopt(false)
	}
}

// TestDescriptors starts private programs and heirs at the same time: only heirs, and all of them, get
// what this process inherited itself.
func TestDescriptors(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	seen := fmt.Sprintf("test -e /proc/self/fd/%d", pipe[0])
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() {
			if err := Run(t.Context(), shell("! "+seen), &bytes.Buffer{}); err != nil {
				t.Errorf("a private program has it: %v", err)
			}
		})
		running.Go(func() {
			h, err := StartHeir(shell(seen), nil)
			if err != nil {
				t.Error(err)
				return
			}
			if status := h.Wait(); status != 0 {
				t.Errorf("an heir has it not: status %d", status)
			}
		})
	}
	running.Wait()
	for _, fd := range pipe {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags != 0 {
			t.Errorf("its marks were left changed: %d, %v", flags, err)
		}
	}
}

// Of two private starts at once, the one that ends first leaves the other as free of what this process
// inherited as one that starts alone.
func TestPrivateStartsDoNotDisturbEachOther(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	enough := errors.New("nothing is started here")
	private := func(begin func()) error {
		return start(&exec.Cmd{}, func() error {
			return withoutInherited(func() error {
				begin()
				return enough
			})
		})
	}
	started, entered, release, ended := make(chan bool), make(chan bool), make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		_ = private(func() {
			close(started)
			<-release
		})
	}()
	<-started
	var inherited []string
	second := make(chan error)
	go func() {
		second <- private(func() {
			close(entered)
			<-ended
			inherited = inheritable(t)
		})
	}()
	select {
	case <-entered: // both are at it
	case <-time.After(100 * time.Millisecond): // it waits its turn
	}
	close(release)
	if err := <-second; !errors.Is(err, enough) || len(inherited) != 0 {
		t.Errorf("a program would inherit %v, %v", inherited, err)
	}
}

// inheritable are the descriptors that a child would inherit just now.
func inheritable(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Error(err)
	}
	var all []string
	for _, entry := range entries {
		fd, _ := strconv.Atoi(entry.Name())
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); fd > 2 && err == nil && flags&unix.FD_CLOEXEC == 0 {
			all = append(all, entry.Name())
		}
	}
	return all
}

func TestReap(t *testing.T) {
	for mode, want := range map[string]string{"reaping": "unburied: false", "idle": "unburied: true"} {
		t.Run(mode, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), adopterVariable+"="+mode)
			out, err := cmd.CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != want {
				t.Errorf("it says %q, %v; want %q", out, err, want)
			}
		})
	}
}

// adopt makes this process the parent of orphans and starts programs that leave some. It says whether
// any is left unburied, and whether the status of a program of its own was lost.
func adopt(reaping bool) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Println(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if reaping {
		go Reap(ctx)
	}
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 25 {
				err := Run(ctx, shell("(exit 0) & (exit 1) & (kill -KILL $$) & exit 7"), &bytes.Buffer{})
				if text := textOf(err); text != "it exited with status 7" && text != "a signal ended it: killed" {
					fmt.Println("the status of its own program:", text)
				}
			}
		})
	}
	running.Wait()
	buried := func() bool { return len(zombies()) == 0 }
	fmt.Println("unburied:", reaping && !eventually(buried) || !reaping && !buried())
}

// zombies are the children of this process that ended and were not asked for.
func zombies() []string {
	var found []string
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		for _, pid := range strings.Fields(content(list)) {
			if _, state, _ := strings.Cut(content("/proc/"+pid+"/stat"), ") "); strings.HasPrefix(state, "Z") {
				found = append(found, pid)
			}
		}
	}
	return found
}

func TestRunAs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("being another user needs root")
	}
	var said bytes.Buffer
	if err := RunAs(t.Context(), shell("id -u; id -g; id -G"), 65534, 65533, &said); err != nil || said.String() != "65534\n65533\n65533\n" {
		t.Errorf("it is %q, %v", said.String(), err)
	}
}
