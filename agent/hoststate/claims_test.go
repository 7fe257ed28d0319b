//go:build unix

package hoststate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const claimEnv = "HOSTSTATE_TEST_CLAIM" // directory and path, separated by a comma

// TestMain is the other agent too: it claims a path until its input ends.
func TestMain(m *testing.M) {
	dir, path, other := strings.Cut(os.Getenv(claimEnv), ",")
	if !other {
		os.Exit(m.Run())
	}
	s, err := Open(Options{Runtime: []string{dir}, Probe: true})
	if client, turn := strings.CutPrefix(path, "turn of "); turn && err == nil {
		if _, taken := s.Turn("https://login.example/token", client); !taken {
			err = errors.New("another process has the turn")
		}
	} else if err == nil {
		err = s.Claim(path)
	}
	fmt.Println(err)
	io.Copy(io.Discard, os.Stdin)
}

// claimElsewhere has another process claim a path, and returns what it says of it.
func claimElsewhere(t *testing.T, dir, path string) (pid int, said string) {
	t.Helper()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), claimEnv+"="+dir+","+path)
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return other.Process.Pid, strings.TrimSpace(line)
}

func TestClaimedElsewhereByWhateverSpelling(t *testing.T) {
	for name, spell := range map[string]func(dir string) string{
		"the same":       func(dir string) string { return dir + "/sink" },
		"with dots":      func(dir string) string { return dir + "/../" + filepath.Base(dir) + "/sink" },
		"through a link": func(dir string) string { return link(dir) + "/sink" },
		"double slash":   func(dir string) string { return dir + "//sink" },
	} {
		t.Run(name, func(t *testing.T) {
			shared, sinks := t.TempDir(), t.TempDir()
			s := open(t, shared, nil)
			pid, said := claimElsewhere(t, shared, filepath.Join(sinks, "sink"))
			if said != "<nil>" {
				t.Fatal(said)
			}
			err := s.Claim(spell(sinks))
			if want := fmt.Sprintf("process %d", pid); err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("Claim = %v, want it to name %s", err, want)
			}
			if err := s.Claim(filepath.Join(sinks, "other")); err != nil {
				t.Errorf("another sink of the directory: %v", err)
			}
		})
	}
}

func link(dir string) string {
	path := dir + ".link"
	if err := os.Symlink(dir, path); err != nil {
		panic(err)
	}
	return path
}

func TestReleasedCanBeClaimed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	path := filepath.Join(dir, "sink")
	for range 2 {
		if err := s.Claim(path); err != nil {
			t.Fatal(err)
		}
	}
	s.Release(path)
	if _, said := claimElsewhere(t, dir, path); !strings.HasSuffix(said, fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("after one of two releases the other process says %q", said)
	}
	s.Release(path)
	if _, said := claimElsewhere(t, dir, path); said != "<nil>" {
		t.Errorf("after the last release it says %q", said)
	}
}

// Before its directory is made, a path is known by its spelling alone; then by the directory too.
func TestClaimOfAPathWhoseDirectoryIsMadeLater(t *testing.T) {
	dir, sinks := t.TempDir(), filepath.Join(t.TempDir(), "sinks")
	s := open(t, dir, nil)
	path := filepath.Join(sinks, "sink")
	mine := fmt.Sprintf("process %d", os.Getpid())
	if err := s.Claim(path); err != nil {
		t.Fatal(err)
	}
	if _, said := claimElsewhere(t, dir, path); !strings.HasSuffix(said, mine) {
		t.Errorf("before the directory is made another process says %q", said)
	}
	if err := os.Mkdir(sinks, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Claim(path); err != nil { // once more, now that it is there
		t.Fatal(err)
	}
	s.Release(path)
	if _, said := claimElsewhere(t, dir, link(sinks)+"/sink"); !strings.HasSuffix(said, mine) {
		t.Errorf("after the directory was made another process says %q", said)
	}
	s.Release(path)
	if _, said := claimElsewhere(t, dir, path); said != "<nil>" {
		t.Errorf("after the last release it says %q", said)
	}
}

func TestTurnIsOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	done, taken := s.Turn("https://login.example/token", "app")
	if !taken {
		t.Fatal("nobody has the turn, and it cannot be taken")
	}
	if _, said := claimElsewhere(t, dir, "turn of app"); said != "another process has the turn" {
		t.Errorf("another process says %q", said)
	}
	if _, said := claimElsewhere(t, dir, "turn of another"); said != "<nil>" {
		t.Errorf("of another client another process says %q", said)
	}
	done()
	if _, said := claimElsewhere(t, dir, "turn of app"); said != "<nil>" {
		t.Errorf("after it was given back another process says %q", said)
	}
	if _, taken := s.Turn("https://login.example/token", "app"); taken {
		t.Error("it was taken while another process has it")
	}
}
