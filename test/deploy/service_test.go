//go:build linux

package deploy_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/internal/devserver"
)

// TestSystemdReadyMeansTokensOnDisk withholds the first token and checks what waits.
func TestSystemdReadyMeansTokensOnDisk(t *testing.T) {
	h := fromCheckout(t, calm, devserver.Fault{Kind: devserver.Slow, Delay: 3 * time.Second, Count: 1})
	h.setUp("Start")
	h.application("Type=oneshot", "RemainAfterExit=yes", "ExecStart="+noteToken)
	h.Run("systemctl", "start", "--no-block", "app")
	if err := h.server.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if agent, app := h.property("credagent", "ActiveState"), h.property("app", "ActiveState"); agent != "activating" || app != "inactive" {
		t.Errorf("before there is a token, credagent is %s and the application %s", agent, app)
	}
	if _, err := os.Stat(h.Path(appToken)); err == nil {
		t.Error("the token was there before it was looked whether anybody waits for it")
	}
	h.Await("the application has started", func() bool { return h.property("app", "ActiveState") == "active" })
	if agent := h.property("credagent", "ActiveState"); agent != "active" {
		t.Errorf("the application has started while credagent is %s", agent)
	}
	h.wantToken(noted)
}

// TestSystemdNoTokenNoStart has an agent that cannot start, and an application that must not.
func TestSystemdNoTokenNoStart(t *testing.T) {
	h := fromCheckout(t, calm)
	h.setUp("Start")
	h.replaceInConfig("client_id:", "client_idd:")
	h.application("Type=oneshot", "ExecStart="+noteToken)
	if out, err := h.Try("systemctl", "start", "app"); err == nil {
		t.Errorf("the application started without a token: %s", out)
	}
	if status := h.property("credagent", "ExecMainStatus"); status != "78" {
		t.Errorf("credagent ended with %s, want 78 for a configuration that is not valid", status)
	}
	if restarts := h.property("credagent", "NRestarts"); restarts != "0" {
		t.Errorf("credagent was started %s times again with a configuration that is not valid", restarts)
	}
}

func TestSystemdReadersAndNobodyElse(t *testing.T) {
	h := started(t, calm)
	for user, allowed := range map[string]map[string]bool{
		"app":    {appToken: true, "/run/credagent/worker.token": false},
		"worker": {appToken: false, "/run/credagent/worker.token": true},
		"other":  {appToken: false, "/run/credagent/worker.token": false},
	} {
		for path, want := range allowed {
			_, err := h.Try("setpriv", "--reuid="+user, "--regid="+user, "--clear-groups", "cat", path)
			if got := err == nil; got != want {
				t.Errorf("%s reads %s: %t, want %t", user, path, got, want)
			}
		}
		if out, err := h.Try("setpriv", "--reuid="+user, "--regid="+user, "--clear-groups", "ls", "/run/credentials/credagent.service"); err == nil {
			t.Errorf("%s sees the agent's credentials: %s", user, out)
		}
	}
}

// TestSystemdServiceLife takes a service through all that an administrator does to it, with one
// application that never stops reading.
func TestSystemdServiceLife(t *testing.T) {
	h := started(t, calm)
	stop := h.watch(appToken)
	requests := h.requests()
	h.Run("systemctl", "restart", "credagent")
	h.wantRequests(requests)

	pid := h.mainPID()
	h.replaceInConfig("sinks:\n", "sinks:\n  - { type: file, token: orders, path: /run/credagent/second.token }\n")
	h.Run("systemctl", "reload", "credagent")
	h.Await("the new sink is written", func() bool { _, err := os.Stat(h.Path("/run/credagent/second.token")); return err == nil })
	h.wantToken("/run/credagent/second.token")
	h.replaceInConfig("type: file", "type: pipe")
	if out, err := h.Try("systemctl", "reload", "credagent"); err == nil {
		t.Errorf("a configuration that is not valid was reloaded: %s", out)
	}
	h.replaceInConfig("type: pipe", "type: file")
	if now := h.mainPID(); now != pid {
		t.Errorf("after reloads the agent is process %d, want still %d", now, pid)
	}
	h.wantRequests(requests)

	begin := time.Now()
	h.Run("systemctl", "stop", "credagent")
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if result := h.property("credagent", "Result"); result != "success" {
		t.Errorf("stopping ended in %s", result)
	}
	h.wantToken(appToken)
	stop()

	// As after a reboot: nothing is left below /run.
	h.Run("systemctl", "clean", "--what=runtime", "credagent")
	if _, err := os.Stat(h.Path("/run/credagent")); err == nil {
		t.Error("the runtime directory is still there")
	}
	h.Run("systemctl", "start", "credagent")
	h.wantToken(appToken)
	h.wantRequests(requests)
}

func TestSystemdKilledAgent(t *testing.T) {
	h := started(t, calm)
	stop := h.watch(appToken)
	requests := h.requests()
	h.Run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "credagent")
	h.restarted()
	h.wantRequests(requests)
	stop()
}

// TestSystemdHangingAgent stops the agent's process, which the watchdog notices.
func TestSystemdHangingAgent(t *testing.T) {
	h := started(t, calm)
	h.dropIn("credagent.service", "watchdog", "WatchdogSec=2s")
	h.Run("systemctl", "restart", "credagent")
	stop := h.watch(appToken)
	h.Run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "credagent")
	h.restarted()
	stop()
	if log := h.Run("journalctl", "--no-pager", "--unit=credagent", "--output=cat"); !strings.Contains(log, "Watchdog timeout") {
		t.Errorf("it was not the watchdog:\n%s", log)
	}
}

// TestSystemdRefreshes kills the provider, has an application reloaded by the path unit, and replaces the
// program, while tokens are refreshed every few seconds.
func TestSystemdRefreshes(t *testing.T) {
	h := started(t, brisk)
	h.application("ExecStart=/bin/sleep infinity", "ExecReload="+noteToken)
	h.Run("systemctl", "start", "app")
	h.Run("systemctl", "enable", "--now", "credagent-reload@app.path")
	stop := h.watch(appToken)
	pid := h.mainPID()
	h.Await("the application has been reloaded", func() bool {
		seen, err := os.ReadFile(h.Path(noted))
		return err == nil && h.server.Valid(string(seen))
	})

	// The program is replaced as a package manager does; the agent goes on with the old one.
	binary := read(t, h.Path("/usr/bin/credagent"))
	h.Write("/usr/bin/credagent", binary+"\n", 0o755)
	h.Shell(fmt.Sprintf("kill -KILL $(cat /proc/%[1]d/task/*/children)", pid))
	requests := h.requests()
	h.Await("a token is requested by a new provider", func() bool { return h.requests() > requests+1 })
	if now := h.mainPID(); now != pid || h.property("credagent", "NRestarts") != "0" {
		t.Errorf("the agent is process %d, want %d: it did not outlive its provider", now, pid)
	}
	h.Run("systemctl", "restart", "credagent")
	if running := read(t, h.Path(fmt.Sprintf("/proc/%d/exe", h.mainPID()))); running != binary+"\n" {
		t.Error("after a restart the old program runs still")
	}
	stop()
	if early := h.server.RetryAfterViolations(); early != 0 {
		t.Errorf("%d requests came before a Retry-After was over", early)
	}
}
