//go:build linux

package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/credagent/credagent/agent/config"
)

// packages makes the .deb and the .rpm of a version and returns their names.
func packages(t *testing.T, version string) (deb, rpm string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), deployed+"/release.sh", "packages", dir, runtime.GOARCH)
	cmd.Env = append(os.Environ(), "RELEASE_VERSION="+version)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("making packages: %v\n%s", err, out)
	}
	one := func(pattern string) string {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(names) != 1 {
			t.Fatalf("the packages are %v: %v", names, err)
		}
		return names[0]
	}
	return one("*.deb"), one("*.rpm")
}

// installer is what a package is tried with: how it is installed, upgraded and removed.
type installer struct {
	install, remove []string
	version         []string
}

// versions are the package that is installed, and the one that it is upgraded to.
var versions = [2]string{"1.0.0", "1.0.1"}

var (
	withDpkg = installer{[]string{"dpkg", "--install"}, []string{"dpkg", "--remove", "credagent"}, []string{"dpkg-query", "--show", "--showformat=${Version}", "credagent"}}
	// The machine is a Debian, whose systemd rpm knows nothing of.
	withRPM = installer{[]string{"rpm", "--upgrade", "--nodeps"}, []string{"rpm", "--erase", "credagent"}, []string{"rpm", "--query", "--queryformat=%{VERSION}", "credagent"}}
)

func TestPackage(t *testing.T) {
	needE2E(t)
	deb, rpm := map[string]string{}, map[string]string{}
	for _, version := range versions {
		deb[version], rpm[version] = packages(t, version)
	}
	t.Run("deb", func(t *testing.T) {
		h := newHost(t, calm)
		h.liveWith(withDpkg, deb)
		h.wantFile("/etc/credagent/credagent.yaml", true)
		h.wantToken(appToken)
		h.Run("dpkg", "--purge", "credagent")
		for _, gone := range []string{"/etc/credagent/credagent.yaml", "/run/credagent", "/var/lib/credagent", "/etc/credstore.encrypted/credagent.state-key"} {
			h.wantFile(gone, false)
		}
	})
	t.Run("rpm", func(t *testing.T) {
		h := newHost(t, calm)
		h.liveWith(withRPM, rpm)
		h.wantFile("/etc/credagent/credagent.yaml.rpmsave", true)
		h.wantToken(appToken)
	})
}

func (h *host) wantFile(path string, want bool) {
	h.t.Helper()
	if _, err := os.Lstat(h.Path(path)); err == nil != want {
		h.t.Errorf("%s is there: %t, want %t", path, err == nil, want)
	}
}

// liveWith installs a package, sets the service up as documented, upgrades the package under it
// while an application reads, and removes it.
func (h *host) liveWith(with installer, files map[string]string) {
	h.t.Helper()
	h.install(with, files, versions[0])
	h.Shell("getent passwd credagent; ls /usr/lib/credagent/plugins /usr/share/man/man5/credagent.yaml.5.gz /usr/share/doc/credagent/docs/systemd.md")
	if enabled, _ := h.Try("systemctl", "is-enabled", "credagent"); enabled != "disabled" {
		h.t.Errorf("after the installation the service is %q, want it disabled: there is no configuration yet", enabled)
	}
	if out, err := h.Try("credagent", "validate"); err == nil || !strings.Contains(out, "clients") {
		h.t.Errorf("the default configuration does not say what is missing: %s", out)
	}
	h.Shell("mkdir -p /etc/credstore.encrypted")
	h.followSections("Credentials", "An application that needs its token")
	h.wantToken(appToken)

	stop := h.watch(appToken)
	pid := h.mainPID()
	requests := h.requests()
	h.install(with, files, versions[1])
	h.Await("the upgraded agent runs and is ready", func() bool {
		return h.property("credagent", "MainPID") != fmt.Sprint(pid) && h.property("credagent", "ActiveState") == "active"
	})
	if exe, err := os.Readlink(h.Path(fmt.Sprintf("/proc/%d/exe", h.mainPID()))); err != nil || strings.HasSuffix(exe, "(deleted)") {
		h.t.Errorf("after the upgrade %s runs: %v", exe, err)
	}
	if !strings.Contains(read(h.t, h.Path("/etc/credagent/credagent.yaml")), "payments") {
		h.t.Error("the upgrade has overwritten the configuration")
	}
	h.wantRequests(requests)
	stop()

	h.Run(with.remove...)
	if state, _ := h.Try("systemctl", "is-active", "credagent"); state != "inactive" {
		h.t.Errorf("after the removal the service is %q", state)
	}
	if out, err := h.Try("systemctl", "cat", "credagent"); err == nil {
		h.t.Errorf("after the removal there is still a unit:\n%s", out)
	}
}

// install installs a package, or upgrades to it.
func (h *host) install(with installer, files map[string]string, version string) {
	h.t.Helper()
	at := "/root/" + filepath.Base(files[version])
	h.Copy(files[version], at, 0o644)
	h.Run(append(with.install[:len(with.install):len(with.install)], at)...)
	if got := h.Run(with.version...); got != version {
		h.t.Errorf("installed is %s, want %s", got, version)
	}
}

// TestDefaultConfigurationIsOneExample removes the number signs, as its text instructs.
func TestDefaultConfigurationIsOneExample(t *testing.T) {
	var text strings.Builder
	for line := range strings.Lines(read(t, deployed+"/packages/credagent.yaml")) {
		rest, commented := strings.CutPrefix(line, "#")
		if isSentence := strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, "  "); commented && isSentence {
			rest = line
		}
		text.WriteString(rest)
	}
	cfg, err := config.Parse("credagent.yaml", []byte(text.String()), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatalf("%v\n%s", err, &text)
	}
	if len(cfg.Clients) != 1 || len(cfg.Tokens) != 1 || len(cfg.Sinks) != 1 {
		t.Errorf("it has %d clients, %d tokens and %d sinks, want one of each", len(cfg.Clients), len(cfg.Tokens), len(cfg.Sinks))
	}
}

// TestScriptsAreShell has the shell read what package managers will run as root.
func TestScriptsAreShell(t *testing.T) {
	scripts, err := filepath.Glob(deployed + "/packages/*.sh")
	if err != nil || len(scripts) != 3 {
		t.Fatalf("the scripts are %v: %v", scripts, err)
	}
	recipe := read(t, deployed+"/packages/nfpm.yaml")
	for _, script := range scripts {
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
		if !strings.Contains(recipe, ": "+strings.TrimPrefix(script, root+"/")+"\n") {
			t.Errorf("no package runs %s", script)
		}
	}
}
