//go:build linux

// Package deploy_test holds the unit files to what docs/systemd.md says of them: without a booted
// systemd by its own checks, and, with E2E=1 and as root, in a machine that is booted for it.
package deploy_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maxExposure is the score, times ten, that systemd-analyze security may give at most: 9 is the
// least for a service that makes connections; one more because readers forbid PrivateUsers, and one
// because nobody knows beforehand which network the server is in.
const maxExposure = "--threshold=11"

// checked are the units as they are used, and how well they must be locked in.
var checked = map[string]string{
	"credagent.service":            maxExposure,
	"credagent@web.service":        maxExposure,
	"credagent-reload@app.path":    "",
	"credagent-reload@app.service": maxExposure,
	"credagent-state-key.service":  "--threshold=13",
}

// needAnalyze returns the path of systemd-analyze and skips the test without it.
func needAnalyze(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is missing: apt-get install systemd")
	}
	return path
}

// analyze runs systemd-analyze on a root directory with the units and what they start, and returns
// what it complains about. Its exit status alone misses unknown keys.
func analyze(t *testing.T, root string, args ...string) (complaints string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), needAnalyze(t), append([]string{args[0], "--root=" + root}, args[1:]...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	return stderr.String(), err
}

// unitRoot is a root directory with our units, systemd's targets, and stand-ins for programs.
func unitRoot(t *testing.T) string {
	t.Helper()
	needAnalyze(t)
	root := t.TempDir()
	dir := filepath.Join(root, "usr/lib/systemd/system")
	for _, pattern := range []string{deployed + "/systemd/*.service", deployed + "/systemd/*.path", "/usr/lib/systemd/system/*.target"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		for _, file := range files {
			write(t, filepath.Join(dir, filepath.Base(file)), read(t, file), 0o644)
		}
	}
	for _, program := range []string{"usr/bin/credagent", "usr/bin/systemctl", "bin/sh"} {
		write(t, filepath.Join(root, program), "#!/bin/sh\n", 0o755)
	}
	return root
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func write(t *testing.T, name, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func TestUnitsAreValid(t *testing.T) {
	root := unitRoot(t)
	for unit := range checked {
		if complaints, err := analyze(t, root, "verify", unit); err != nil || complaints != "" {
			t.Errorf("%s: %v\n%s", unit, err, complaints)
		}
	}
}

// TestVerifyNoticesMistakes shows that the silence above means something.
func TestVerifyNoticesMistakes(t *testing.T) {
	for name, replace := range map[string][2]string{
		"unknown key":     {"ProtectClock=yes", "ProtectClocks=yes"},
		"unknown value":   {"Type=notify", "Type=notifies"},
		"missing program": {"ExecStart=/usr/bin/credagent", "ExecStart=/usr/bin/credagentd"},
	} {
		t.Run(name, func(t *testing.T) {
			root := unitRoot(t)
			mistaken := strings.Replace(read(t, deployed+"/systemd/credagent.service"), replace[0], replace[1], 1)
			write(t, filepath.Join(root, "usr/lib/systemd/system/credagent.service"), mistaken, 0o644)
			if complaints, _ := analyze(t, root, "verify", "credagent.service"); complaints == "" {
				t.Errorf("%s in place of %s is not noticed", replace[1], replace[0])
			}
		})
	}
}

func TestExposure(t *testing.T) {
	root := unitRoot(t)
	for unit, threshold := range checked {
		if threshold == "" {
			continue
		}
		if complaints, err := analyze(t, root, "security", "--offline=true", threshold, unit); err != nil {
			t.Errorf("%s is exposed more than %s allows: %v\n%s", unit, threshold, err, complaints)
		}
	}
}

// TestWaitForToken verifies a service with the drop-in.
func TestWaitForToken(t *testing.T) {
	root := unitRoot(t)
	dir := filepath.Join(root, "etc/systemd/system")
	write(t, filepath.Join(dir, "app.service"), "[Service]\nExecStart=/bin/sh\n", 0o644)
	write(t, filepath.Join(dir, "app.service.d/wait-for-token.conf"), read(t, deployed+"/systemd/wait-for-token.conf"), 0o644)
	if complaints, err := analyze(t, root, "verify", "app.service"); err != nil || complaints != "" {
		t.Errorf("%v\n%s", err, complaints)
	}
}

// TestTemplateIsTheUnit keeps the unit of many instances the same as that of one.
func TestTemplateIsTheUnit(t *testing.T) {
	named := strings.NewReplacer(
		"Description=Keeps OAuth 2.0 access tokens fresh", "Description=Keeps OAuth 2.0 access tokens fresh (%i)",
		"/etc/credagent/credagent.yaml", "/etc/credagent/%i.yaml",
		"User=credagent\n", "User=credagent-%i\n",
		"Directory=credagent\n", "Directory=credagent-%i\n",
		"+/run/credagent ", "+/run/credagent-%i ",
		"+/var/lib/credagent ", "+/var/lib/credagent-%i ",
	)
	_, want, _ := strings.Cut(named.Replace(read(t, deployed+"/systemd/credagent.service")), "[Unit]")
	_, got, _ := strings.Cut(read(t, deployed+"/systemd/credagent@.service"), "[Unit]")
	if got != want {
		t.Errorf("credagent@.service differs from credagent.service; want\n[Unit]%s", want)
	}
}
