//go:build linux

package resilience_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/internal/devserver"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// limitDescriptors sets how many descriptors a running process may have, and returns how many it might.
func limitDescriptors(t *testing.T, pid int, limit uint64) (before uint64) {
	t.Helper()
	var old unix.Rlimit
	must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old))
	must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: old.Max}, nil))
	return old.Cur
}

// TestDescriptorsRunOut takes a running agent's descriptors away: first with a provider at hand, so
// that there are tokens which cannot be written, then with one that would have to be started.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		idle string
		log  []string
	}{
		"for files":     {"1m", []string{`"writing sink failed, the old content stays"`, "too many open files"}},
		"for providers": {"1s", []string{`"token request failed"`, `"class":"transient"`, "too many open files"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, devserver.Options{TTL: faultLife, RefreshIn: faultEvery})
			h.configureOne(t, "plugins: { idle_timeout: "+tc.idle+" }\n", "")
			agent := h.start(t)
			h.ready(t, agent)
			before := h.read(t, "sinks/token")
			if tc.idle == "1s" {
				until(t, "the provider has ended", func() bool { return len(h.providers(t, agent)) == 0 })
			}
			r := startReaders(t, 1, []watched{{h.path("sinks/token"), rawTokens}}, h.server.Valid)
			limit := limitDescriptors(t, agent.PID(), 3)
			until(t, "the log tells", func() bool { return agent.Log.Count(tc.log...) > 0 })
			if h.read(t, "sinks/token") != before {
				t.Error("the old token did not stay")
			}
			limitDescriptors(t, agent.PID(), limit)
			until(t, "a new token is in the file", func() bool { return h.read(t, "sinks/token") != before })
			h.ready(t, agent)
			r.end()
		})
	}
}

// configureOne configures one token and its sink.
func (h *host) configureOne(t *testing.T, more, ofClient string) {
	t.Helper()
	h.write(t, "credagent.yaml", h.preamble()+more+"clients:\n"+h.clientLine("app", h.server.TokenURL(), ofClient)+
		fmt.Sprintf("tokens: { t: { client: app, scopes: [read] } }\nsinks: [{ type: file, token: t, path: %s }]\n", h.path("sinks/token")))
}

const memoryLimit = 64 << 20

// memoryGroup makes a control group with a memory limit.
func memoryGroup(t *testing.T) string {
	t.Helper()
	needRoot(t)
	for root, file := range map[string]string{"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"} {
		group := filepath.Join(root, "credagent-test-"+strconv.Itoa(os.Getpid()))
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			until(t, "the control group is empty", func() bool { return !errors.Is(os.Remove(group), unix.EBUSY) })
		})
		if os.WriteFile(filepath.Join(group, file), []byte(strconv.Itoa(memoryLimit)), 0) == nil {
			return group
		}
	}
	t.Skip("no control group for memory can be made: that a small one is enough is NOT shown here")
	return ""
}

// TestLittleMemory runs the agent and its provider with little memory, and a server that sends two
// gigabytes for a token.
func TestLittleMemory(t *testing.T) {
	t.Parallel()
	group := memoryGroup(t)
	h := newHost(t, devserver.Options{TTL: faultLife, RefreshIn: faultEvery})
	h.configureOne(t, "", "request_timeout: 5s,")
	agent := h.launch(t, exec.Command("sh", "-c", `echo $$ > "$1/cgroup.procs" && exec "$2/credagent" run -c "$2/credagent.yaml"`, "sh", group, h.dir), "GOMEMLIMIT=24MiB")
	h.ready(t, agent)
	before := h.read(t, "sinks/token")
	r := startReaders(t, 1, []watched{{h.path("sinks/token"), rawTokens}}, h.server.Valid)
	must(t, h.server.Inject(devserver.Fault{Kind: devserver.Huge, Count: 1}))
	until(t, "the log tells", func() bool {
		return agent.Log.Count(`"token request failed"`, `"class":"transient"`, "1 MiB") > 0
	})
	until(t, "a new token is in the file", func() bool { return h.read(t, "sinks/token") != before })
	r.end()
	for _, pid := range append(h.providers(t, agent), agent.PID()) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		must(t, err)
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		peak, _, _ = strings.Cut(peak, "\n")
		t.Logf("process %d: at most %s resident", pid, strings.TrimSpace(peak))
	}
	agent.Terminate()
	<-agent.Ended()
	if !agent.ProcessState.Success() {
		t.Errorf("the agent ends with %s", agent.ProcessState)
	}
}
