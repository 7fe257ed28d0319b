//go:build unix

package setup

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// must ends the test at an error that has nothing to do with what it tests.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// belongs tells whose a file is and its mode.
func belongs(t *testing.T, path string) (owner, fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	return ownerOf(info), info.Mode()
}

// assertionIn is a plan that makes nothing but the configuration and directories.
func assertionIn(t *testing.T, dir string) Plan {
	t.Helper()
	p, err := Make(Answers{Server: "generic", Issuer: "https://login.example.com", ClientID: "a", Credential: Assertion, Dir: dir + "/etc", File: dir + "/run/app.token"}, root)
	must(t, err)
	return p
}

// TestAddingKeepsWhoCanRead adds to a configuration of somebody who could not read it if it became root's.
func TestAddingKeepsWhoCanRead(t *testing.T) {
	for name, linked := range map[string]bool{"a file": false, "a symbolic link": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file, config := dir+"/etc/credagent.yaml", dir+"/etc/credagent.yaml"
			must(t, os.Mkdir(dir+"/etc", 0o755))
			if linked {
				file = dir + "/elsewhere/real.yaml"
				must(t, os.Mkdir(dir+"/elsewhere", 0o755))
				must(t, os.Symlink("../elsewhere/real.yaml", config))
			}
			must(t, os.WriteFile(file, []byte("log: { level: warn }\n"), 0o600))
			want := owner{os.Getuid(), os.Getgid()}
			if os.Geteuid() == 0 { // only root can have another's file
				want = owner{4711, 4712}
				must(t, os.Chown(file, want.uid, want.gid))
			}
			must(t, os.Chmod(file, 0o640))
			must(t, Maker{Out: io.Discard, UID: -1, GID: -1}.Make(t.Context(), assertionIn(t, dir)))
			if got, mode := belongs(t, file); got != want || mode != 0o640 {
				t.Errorf("it is of %v with the mode %v, want %v and 0640", got, mode, want)
			}
			if text, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(text), "log: { level: warn }\n\n# Made by") {
				t.Errorf("it has %q, %v", text, err)
			}
			if _, mode := belongs(t, config); (mode.Type() == fs.ModeSymlink) != linked {
				t.Errorf("the configuration is now a %v", mode)
			}
			if left, _ := filepath.Glob(dir + "/*/.*"); len(left) != 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

func TestLinkToNothing(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/etc", 0o755))
	must(t, os.Symlink(dir+"/nowhere", dir+"/etc/credagent.yaml"))
	err := Maker{Out: io.Discard, UID: -1, GID: -1}.Make(t.Context(), assertionIn(t, dir))
	if err == nil || !strings.Contains(err.Error(), "is a symbolic link to a file that is not there: make an empty file there") {
		t.Errorf("the error is %v", err)
	}
}

// TestDirectoryIsSettledByDescriptor has a link where the directory that was just made should be.
func TestDirectoryIsSettledByDescriptor(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/theirs", 0o700))
	must(t, os.Symlink("theirs", dir+"/link"))
	if err := settle(dir+"/link", owner{-1, -1}, 0o755); err == nil {
		t.Error("a link is taken for the directory")
	}
	if _, mode := belongs(t, dir+"/theirs"); mode.Perm() != 0o700 {
		t.Errorf("what the link leads to has the mode %v", mode)
	}
	must(t, settle(dir+"/theirs", owner{-1, -1}, 0o755))
	if _, mode := belongs(t, dir+"/theirs"); mode.Perm() != 0o755 {
		t.Errorf("the directory has the mode %v", mode)
	}
}

// TestServiceOwnsItsOwn looks at what is made for the service's user.
func TestServiceOwnsItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making another user's files needs root")
	}
	dir := t.TempDir()
	p, err := Make(Answers{Server: "generic", Issuer: "https://login.example.com", ClientID: "a", Credential: Certificate, Dir: dir + "/etc", File: dir + "/run/app.token"}, root)
	must(t, err)
	must(t, Maker{Out: io.Discard, UID: 4711, GID: 4712}.Make(t.Context(), p))
	for path, want := range map[string]owner{"/etc": {0, 0}, "/run": {4711, 4712}, "/etc/generic.key": {4711, 4712}, "/etc/generic.pem": {0, 0}, "/etc/credagent.yaml": {0, 0}} {
		if got, _ := belongs(t, dir+path); got != want {
			t.Errorf("%s is of %v, want %v", path, got, want)
		}
	}
}
