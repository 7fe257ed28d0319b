//go:build linux

package deploy_test

import (
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// clone makes a clone of the repository, which has no changes that were not committed.
func clone(t *testing.T, dir string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is missing: apt-get install git")
	}
	if out, err := exec.CommandContext(t.Context(), "git", "clone", "--quiet", root, dir).CombinedOutput(); err != nil {
		t.Skipf("this is no git checkout: %v\n%s", err, out)
	}
}

// TestReleaseIsReproducible builds the release's binary in two places. The compiler's cache is
// shared, so that it is quick; make release-check compiles everything anew.
func TestReleaseIsReproducible(t *testing.T) {
	var digests [2][sha256.Size]byte
	var binary string
	for i, place := range []string{"one", "another/place"} {
		dir := filepath.Join(t.TempDir(), place)
		clone(t, dir)
		binary = filepath.Join(dir, "credagent")
		if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "deploy/release.sh"), "binary", runtime.GOARCH, binary).CombinedOutput(); err != nil {
			t.Fatalf("building: %v\n%s", err, out)
		}
		digests[i] = sha256.Sum256([]byte(read(t, binary)))
	}
	if digests[0] != digests[1] {
		t.Errorf("two builds of one commit differ: %x, %x", digests[0], digests[1])
	}
	checkBinary(t, binary)
}

// checkBinary checks what a release's binary promises: it needs nothing of the system it runs on, and it names its
// commit.
func checkBinary(t *testing.T, binary string) {
	t.Helper()
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, setting := range info.Settings {
		settings[setting.Key] = setting.Value
	}
	head, err := exec.CommandContext(t.Context(), "git", "-C", filepath.Dir(binary), "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"CGO_ENABLED": "0", "-trimpath": "true", "vcs.revision": strings.TrimSpace(string(head)), "vcs.modified": "false"} {
		if settings[key] != want {
			t.Errorf("it was built with %s=%s, want %s", key, settings[key], want)
		}
	}
	if version := info.Main.Version; !strings.HasPrefix(version, "v") {
		t.Errorf("its version is %q", version)
	}
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			t.Error("it is not static: it wants a dynamic loader")
		}
	}
	symbols, err := file.Symbols()
	if err != nil || len(symbols) != 1 || symbols[0].Name != "runtime.fwdSig" || file.Section(".debug_info") != nil {
		t.Errorf("it has what a debugger wants, or not the symbol by which exec knows what was ignored at its start: %v, %v", symbols, err)
	}
}

// TestReleaseRefusesMistakes calls the script in ways that it must not take for something else.
func TestReleaseRefusesMistakes(t *testing.T) {
	for _, args := range [][]string{nil, {"bogus"}, {"--help"}, {"packages"}, {"all"}, {"sums"}, {"binary", "amd64"}} {
		out, err := exec.CommandContext(t.Context(), deployed+"/release.sh", args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "release.sh packages DIR") {
			t.Errorf("release.sh %v: %v\n%s", args, err, out)
		}
	}
}

// TestReleaseRefusesBadVersions sets versions that package managers would not take or misread.
func TestReleaseRefusesBadVersions(t *testing.T) {
	for _, version := range []string{"v1.2.3", "latest", "1.2", "$(id)"} {
		cmd := exec.CommandContext(t.Context(), deployed+"/release.sh", "packages", t.TempDir(), runtime.GOARCH)
		cmd.Env = append(cmd.Environ(), "RELEASE_VERSION="+version)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "is no version such as 1.2.3") {
			t.Errorf("RELEASE_VERSION=%s: %v\n%s", version, err, out)
		}
	}
}
