//go:build unix

package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestModesAreExact(t *testing.T) {
	for _, mask := range []int{0o000, 0o022, 0o077, 0o177} {
		keyFile, dir := writeKey(t), filepath.Join(t.TempDir(), "state")
		must(t, os.Mkdir(dir, 0o700))
		if mask != 0o177 { // it takes from a directory what its owner needs
			must(t, os.Remove(dir))
		}
		saveUnderUmask(t, mask, dir, keyFile)
		for path, want := range map[string]fs.FileMode{dir: fs.ModeDir | 0o700, filepath.Join(dir, "graph.age"): 0o600} {
			info, err := os.Stat(path)
			must(t, err)
			if info.Mode() != want {
				t.Errorf("umask %03o: the mode of %s is %s, want %s", mask, filepath.Base(path), info.Mode(), want)
			}
		}
	}
}

func saveUnderUmask(t *testing.T, mask int, dir, keyFile string) {
	t.Helper()
	defer syscall.Umask(syscall.Umask(mask))
	s, err := Open(dir, keyFile)
	must(t, err)
	must(t, s.Save("graph", sample("graph")))
}

func TestDirectoriesThatAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		arrange func(dir string) error
		want    []string
	}{
		"others may read":    {mode(0o755), []string{"its mode 0755 lets others in", "chmod 700"}},
		"others may write":   {mode(0o777 | fs.ModeSticky), []string{"its mode 0777 lets others in"}},
		"the group may pass": {mode(0o710), []string{"its mode 0710 lets others in"}},
		"a file":             {func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, []string{"not a directory"}},
		"a dangling link":    {func(dir string) error { return os.Symlink("nowhere", dir) }, []string{"no such file or directory"}},
		"no parent":          {func(dir string) error { return os.Remove(filepath.Dir(dir)) }, []string{"making state directory", "create"}},
	} {
		t.Run(name, func(t *testing.T) {
			keyFile, dir := writeKey(t), filepath.Join(t.TempDir(), "lib", "state")
			must(t, os.Mkdir(filepath.Dir(dir), 0o755))
			must(t, tc.arrange(dir))
			_, err := Open(dir, keyFile)
			wantSetup(t, err, "dir", append(tc.want, dir)...)
			if problems := Check(dir, keyFile); len(problems) != 1 {
				t.Errorf("Check() = %v", problems)
			} else {
				wantSetup(t, problems[0], "dir", dir)
			}
		})
	}
}

func mode(mode fs.FileMode) func(string) error {
	return func(dir string) error {
		return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode))
	}
}

func TestDirectoriesThatAreAccepted(t *testing.T) {
	for name, arrange := range map[string]func(dir string) error{
		"missing":   func(string) error { return nil },
		"private":   mode(0o700),
		"read-only": mode(0o500), // until a token is to be saved
		"set-group": mode(0o700 | fs.ModeSetgid),
		"a link of ours": func(dir string) error {
			return errors.Join(os.Mkdir(dir+".private", 0o700), os.Symlink(dir+".private", dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			keyFile, dir := writeKey(t), filepath.Join(t.TempDir(), "state")
			must(t, arrange(dir))
			if problems := Check(dir, keyFile); len(problems) != 0 {
				t.Errorf("Check() = %v", problems)
			}
			_, err := Open(dir, keyFile)
			must(t, err)
		})
	}
}

func TestOwnersThatAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a directory away needs root")
	}
	keyFile, dir := writeKey(t), filepath.Join(t.TempDir(), "state")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Chown(dir, 4001, 4001))
	_, err := Open(dir, keyFile)
	wantSetup(t, err, "dir", "belongs to uid 4001", "run: chown 0")

	must(t, os.Chown(dir, 0, 0))
	must(t, os.Chown(keyFile, 4001, 4001))
	_, err = Open(dir, keyFile)
	wantSetup(t, err, "key_file", "it belongs to uid 4001, neither root nor the agent's user (uid 0)", "make a new one, as its owner knows this one: (umask 077; credagent keygen > NEW)")
	must(t, os.Chown(keyFile, 0, 0))
	link := dir + "-link"
	must(t, os.Symlink(dir, link))
	must(t, os.Lchown(link, 4001, 4001))
	_, err = Open(link, keyFile)
	wantSetup(t, err, "dir", "symbolic link", "was made by uid 4001", "configure the path that it points to")

	must(t, os.Lchown(link, 0, 0))
	must(t, os.Chown(keyFile, 4001, 4001))
	_, err = Open(dir, keyFile)
	wantSetup(t, err, "key_file", "it belongs to uid 4001", "make a new one")
}

// TestKeyThatOthersCouldReplace lies in a directory, or is reached by one, that others may write to.
func TestKeyThatOthersCouldReplace(t *testing.T) {
	keyFile, dir := writeKey(t), filepath.Join(t.TempDir(), "state")
	above := filepath.Join(t.TempDir(), "above")
	must(t, os.MkdirAll(filepath.Join(above, "keys"), 0o755))
	moved := filepath.Join(above, "keys", "key")
	must(t, os.Rename(keyFile, moved))
	must(t, os.Symlink(moved, keyFile))
	_, err := Open(dir, keyFile) // as mounted secrets are
	must(t, err)
	must(t, os.Chmod(above, 0o777))
	_, err = Open(dir, keyFile)
	wantSetup(t, err, "key_file", "can be written to by others", "run: chmod go-w", above)
}

func TestKeyModes(t *testing.T) {
	for mode, fine := range map[fs.FileMode]bool{
		0o400: true, 0o600: true, 0o440: true, 0o640: true,
		0o644: false, 0o444: false, 0o660: false, 0o602: false, 0o601: false, 0o777: false,
	} {
		file := writeKey(t)
		must(t, os.Chmod(file, mode))
		_, err := Open(filepath.Join(t.TempDir(), "state"), file)
		if fine {
			must(t, err)
			continue
		}
		wantSetup(t, err, "key_file", "is too wide for a key; run: chmod g-w,o-rwx", file)
	}
}

// TestPipesAreNotWaitedFor would hang.
func TestPipesAreNotWaitedFor(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(pipe, 0o600))
	_, err := Open(filepath.Join(t.TempDir(), "state"), pipe)
	wantSetup(t, err, "key_file", "it is not a regular file (p")

	s, _ := twoTokens(t)
	must(t, os.Remove(filepath.Join(s.dir, "graph.age")))
	must(t, syscall.Mkfifo(filepath.Join(s.dir, "graph.age"), 0o600))
	wantDamage(t, s, "it is not a regular file (p")
}

func TestCheckReportsEverythingAndChangesNothing(t *testing.T) {
	keyFile, dir := writeKey(t), filepath.Join(t.TempDir(), "state")
	s, err := Open(dir, keyFile)
	must(t, err)
	must(t, s.Save("fine", sample("fine")))
	put(t, s, "graph", nil)
	put(t, s, "orders", []byte("x"))
	must(t, os.WriteFile(filepath.Join(dir, ".credagent-graph.age-0123456789abcdef"), nil, 0o600))
	before := entries(t, dir)
	problems := Check(dir, keyFile)
	if len(problems) != 2 {
		t.Fatalf("Check() = %v", problems)
	}
	wantError(t, problems[0], "graph.age", "it is empty")
	wantError(t, problems[1], "orders.age", "it is damaged")
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Remove(keyFile))
	problems = Check(dir, keyFile)
	if len(problems) != 2 {
		t.Fatalf("Check() = %v", problems)
	}
	wantSetup(t, problems[0], "key_file", keyFile)
	wantSetup(t, problems[1], "dir", dir)
	if after := entries(t, dir); after != before {
		t.Errorf("Check left %q of %q", after, before)
	}
}

// openTemp is a directory that other users can reach.
func openTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "store")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// unprivileged runs a test again as a process of another user, in its own directory.
func unprivileged(t *testing.T, dir string) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	must(t, os.Chown(dir, 4001, 4001))
	binary := filepath.Join(openTemp(t), "store.test")
	data, err := os.ReadFile(os.Args[0])
	must(t, err)
	must(t, os.WriteFile(binary, data, 0o755))
	cmd := exec.Command(binary, "-test.run=^"+t.Name()+"$")
	cmd.Dir = dir
	cmd.Env = []string{"TMPDIR=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4001, Gid: 4001}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || strings.Contains(out.String(), "no tests to run") {
		t.Errorf("as user 4001: %v\n%s", err, &out)
	}
	return false
}

func TestUnprivileged(t *testing.T) {
	dir := openTemp(t)
	if !unprivileged(t, dir) {
		return
	}
	s, _ := twoTokens(t)
	must(t, os.Chmod(filepath.Join(s.dir, "graph.age"), 0))
	wantDamage(t, s, "permission denied")

	must(t, os.Chmod(s.dir, 0o500))
	wantError(t, s.Save("graph", sample("graph")), "creating a temporary file beside it: permission denied")
	wantError(t, s.Remove("graph"), "permission denied")
	must(t, os.Chmod(s.dir, 0))
	_, failed := s.LoadAll()
	if len(failed) != 1 {
		t.Fatalf("LoadAll() fails with %v", failed)
	}
	wantError(t, failed[0], "opening state directory", "permission denied")
	must(t, os.Chmod(s.dir, 0o700))

	keyFile := writeKey(t)
	must(t, os.Chmod(keyFile, 0))
	_, err := Open(s.dir, keyFile)
	wantSetup(t, err, "key_file", "permission denied; let the agent's user (uid 4001) read it")
}
