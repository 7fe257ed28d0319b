//go:build linux

package deploy_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/credagent/credagent/testkit/agentprocess"
)

// TestSystemdSandbox checks from outside what the agent and its provider may still do.
func TestSystemdSandbox(t *testing.T) {
	h := started(t, calm)
	pid := h.mainPID()
	provider := h.Shell(fmt.Sprintf("cat /proc/%d/task/*/children", pid))
	for _, process := range append(strings.Fields(provider), fmt.Sprint(pid)) {
		status := read(t, h.Path("/proc/"+process+"/status"))
		for _, line := range []string{
			"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000",
			"CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
		} {
			if !strings.Contains(status, "\n"+line+"\n") {
				t.Errorf("process %s has not %q:\n%s", process, line, status)
			}
		}
	}
	if strings.TrimSpace(provider) == "" {
		t.Error("no provider is running")
	}
	inside := fmt.Sprintf("/proc/%d/root", pid)
	for _, hidden := range []string{"/bin/sh", "/usr/bin/sh", "/usr/bin/systemctl", "/lib", "/usr/lib/systemd", "/home", "/root/credagent", "/run/dbus", "/var/log"} {
		if out, err := h.Try("ls", inside+hidden); err == nil && out != "" {
			t.Errorf("the agent sees %s: %s", hidden, out)
		}
	}
	programs, writable := mounts(t, h, pid)
	if want := []string{"/usr/bin/credagent", "/usr/lib/credagent"}; !slices.Equal(programs, want) {
		t.Errorf("programs can be run in %v, want %v", programs, want)
	}
	if want := []string{"/dev/mqueue", "/dev/shm", "/run/credagent", "/tmp", "/var/lib/credagent", "/var/tmp"}; !slices.Equal(writable, want) {
		t.Errorf("the agent can write to %v, want %v", writable, want)
	}
}

// mounts returns where in the agent's root directory it could run a program, and where it could write.
func mounts(t *testing.T, h *host, pid int) (programs, writable []string) {
	t.Helper()
	agent := owner(t, h.Path("/run/credagent"))
	for line := range strings.Lines(read(t, h.Path(fmt.Sprintf("/proc/%d/mounts", pid)))) {
		fields := strings.Fields(line)
		at, options := fields[1], strings.Split(fields[3], ",")
		inside := h.Path(fmt.Sprintf("/proc/%d/root%s", pid, at))
		info, err := os.Stat(inside)
		if err != nil {
			t.Fatal(err)
		}
		mode := info.Mode().Perm()
		if !slices.Contains(options, "noexec") && mode&0o001 != 0 && (info.IsDir() || info.Mode().IsRegular()) {
			programs = append(programs, at)
		}
		if slices.Contains(options, "rw") && info.IsDir() && (mode&0o002 != 0 || owner(t, inside) == agent) {
			writable = append(writable, at)
		}
	}
	slices.Sort(programs)
	slices.Sort(writable)
	return programs, slices.Compact(writable)
}

func owner(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

// TestSystemdNetworkOfOnesOwn narrows the network as in docs/systemd.md, to one without the server.
func TestSystemdNetworkOfOnesOwn(t *testing.T) {
	h := fromCheckout(t, calm)
	h.setUp("Start")
	h.replaceInConfig("    client_id:", "    request_timeout: 1s\n    client_id:")
	h.dropIn("credagent.service", "network", wish(t, "reach only your own server and name server"))
	h.Run("systemctl", "start", "--no-block", "credagent")
	h.Await("the request has failed", func() bool {
		return strings.Contains(h.Run("journalctl", "--no-pager", "--unit=credagent", "--output=cat"), "token request failed")
	})
	h.wantRequests(0)
	h.Run("systemctl", "stop", "credagent")
	h.dropIn("credagent.service", "network", "IPAddressAllow=\nIPAddressAllow=127.0.0.0/8")
	h.Run("systemctl", "start", "credagent")
	h.wantToken(appToken)
}

// TestSystemdExternalProviders runs a provider from /usr/lib/credagent/plugins, once as a file, once as
// the sealed copy of a pinned one.
func TestSystemdExternalProviders(t *testing.T) {
	h := fromCheckout(t, calm)
	h.setUp("Start")
	binary := filepath.Join(t.TempDir(), "provider")
	if err := agentprocess.Build("test", "./deploy/testdata/ownsecret", binary); err != nil {
		t.Fatal(err)
	}
	h.Copy(binary, "/usr/lib/credagent/plugins/credagent-provider-ownsecret", 0o755)
	sum := sha256.Sum256([]byte(read(t, binary)))
	for pin, lines := range map[string]string{"not pinned": "", "pinned": "plugins: { sha256: { ownsecret: " + hex.EncodeToString(sum[:]) + " } }\n"} {
		h.replaceInConfig("clients:\n", lines+"clients:\n")
		h.Shell("sed -i s/secretcred/ownsecret/ /etc/credagent/credagent.yaml; rm -rf /run/credagent /var/lib/credagent; systemctl restart credagent")
		h.wantToken(appToken)
		if out := h.Run("credagent", "plugins", "-c", "/etc/credagent/credagent.yaml"); !strings.Contains(out, "ownsecret") {
			t.Errorf("%s: the provider is not listed:\n%s", pin, out)
		}
	}
}

// TestSystemdDynamicUserWouldHideTokens is why credagent has a static user.
func TestSystemdDynamicUserWouldHideTokens(t *testing.T) {
	h := fromCheckout(t, calm)
	h.Run("systemd-run", "--unit=dynamic", "--property=DynamicUser=yes", "--property=RuntimeDirectory=dynamic",
		"--property=RuntimeDirectoryPreserve=yes", "--wait", "sh", "-c", "echo token >/run/dynamic/app.token; chmod 644 /run/dynamic/app.token")
	if out := h.Run("cat", "/run/dynamic/app.token"); out != "token" {
		t.Errorf("the file holds %q", out)
	}
	if out, err := h.Try("setpriv", "--reuid=app", "--regid=app", "--clear-groups", "cat", "/run/dynamic/app.token"); err == nil {
		t.Errorf("an application can read %q: a dynamic user is possible", out)
	}
}

// TestSystemdWishes fulfils those of the document's wishes that change what the agent can reach.
func TestSystemdWishes(t *testing.T) {
	h := fromCheckout(t, calm)
	h.setUp("Start")
	h.Shell("install -d -o credagent -g credagent /srv/app")
	h.replaceInConfig("/run/credagent/app.token", "/srv/app/token")
	h.dropIn("credagent.service", "sink", wish(t, "write a sink in `/srv/app`"))
	h.Run("systemctl", "start", "credagent")
	h.wantToken("/srv/app/token")

	h.replaceInConfig("path: /srv/app/token", "path: /srv/app/token\n    mode: \"0640\"\n    group: app")
	h.dropIn("credagent.service", "group", wish(t, "use `group: app` for a sink or the socket"))
	h.Run("systemctl", "restart", "credagent")
	if owner := h.Run("stat", "--format=%U:%G", "/srv/app/token"); owner != "credagent:app" {
		t.Errorf("the sink belongs to %s", owner)
	}

	t.Run("provider that is not static", func(t *testing.T) {
		binary := filepath.Join(t.TempDir(), "provider")
		cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-linkmode=external", "-o", binary, "./testdata/ownsecret")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("a C compiler is needed, make e2e-systemd installs it: %v\n%s", err, out)
		}
		h.Copy(binary, "/usr/lib/credagent/plugins/credagent-provider-ownsecret", 0o755)
		h.replaceInConfig("secretcred", "ownsecret")
		h.dropIn("credagent.service", "provider", wish(t, "run an external provider that is not statically linked, such as `pkcs11cred`"))
		h.Shell("systemctl stop credagent; rm -r /srv/app/token /var/lib/credagent; systemctl start credagent")
		h.wantToken("/srv/app/token")
	})
}
