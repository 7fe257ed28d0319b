//go:build linux

package resilience_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/internal/devserver"
)

// The life of a token where faults last for a refresh or two, and the shortest time between two.
const (
	faultLife  = 2 * time.Minute
	faultEvery = 5 * time.Second
)

// diskFault is something that happens to the directory of a sink, or of the state.
type diskFault struct {
	root   bool // it takes root to make it
	mount  bool // the directory is a small file system of its own
	breaks func(dir string) error
	mends  func(dir string) error
	log    string // what the log says of it
	gone   bool   // the file is gone with the directory
}

var diskFaults = map[string]diskFault{
	"full disk":     {root: true, mount: true, breaks: fill, mends: empty, log: "no space left on device"},
	"read-only":     {root: true, mount: true, breaks: remount(unix.MS_RDONLY), mends: remount(0), log: "read-only file system"},
	"permissions":   {breaks: chmod(0o777), mends: chmod(0o755), log: "can be written to by others"},
	"removed":       {breaks: os.RemoveAll, mends: func(dir string) error { return os.Mkdir(dir, 0o755) }, log: "no such file or directory", gone: true},
	"state removed": {breaks: replaceByFile, mends: removeFile, log: "not a directory"},
}

const mountOptions = "size=64k,mode=0755"

func remount(flags uintptr) func(string) error {
	return func(dir string) error {
		return unix.Mount("credagent-test", dir, "", unix.MS_REMOUNT|flags, mountOptions)
	}
}

func chmod(mode os.FileMode) func(string) error {
	return func(dir string) error { return os.Chmod(dir, mode) }
}

// fill takes all the space that there is.
func fill(dir string) error {
	file, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return err
	}
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	if errors.Is(err, unix.ENOSPC) {
		return nil
	}
	return err
}

func empty(dir string) error { return os.Remove(filepath.Join(dir, "filler")) }

// replaceByFile puts a file where a directory is, as a mount that failed would leave it.
func replaceByFile(dir string) error {
	return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
}

func removeFile(dir string) error { return os.Remove(dir) }

// TestDiskFaults has everything happen at once to the directories of one token's sinks and of the
// state. That each fault holds up nothing but its own sink, the healthy one shows.
func TestDiskFaults(t *testing.T) {
	t.Parallel()
	h := newHost(t, devserver.Options{TTL: faultLife, RefreshIn: faultEvery})
	faults := map[string]diskFault{}
	sinks := "sinks:\n"
	for name, fault := range diskFaults {
		dir := h.faultDir(name)
		if fault.root && os.Geteuid() != 0 {
			t.Run(name, needRoot)
			continue
		}
		faults[name] = fault
		if name == "state removed" {
			continue
		}
		must(t, os.Mkdir(dir, 0o755))
		if fault.mount {
			must(t, unix.Mount("credagent-test", dir, "tmpfs", 0, mountOptions))
			t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
		}
		sinks += fmt.Sprintf("  - { type: file, token: t, path: %s/token }\n", dir)
	}
	h.write(t, "credagent.yaml", h.preamble()+"clients:\n"+h.clientLine("app", h.server.TokenURL(), "")+
		"tokens: { t: { client: app, scopes: [read] } }\n"+sinks+fmt.Sprintf("  - { type: file, token: t, path: %s }\n", h.path("sinks/token")))
	agent := h.start(t)
	h.ready(t, agent)
	before := h.read(t, "sinks/token")
	for name, fault := range faults {
		if err := fault.breaks(h.faultDir(name)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	until(t, "the healthy sink has the next token", func() bool { return h.read(t, "sinks/token") != before })
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) { h.whileBroken(t, agent, name, before) })
		if err := fault.mends(h.faultDir(name)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for name := range faults {
		t.Run(name+" mended", func(t *testing.T) { h.afterMending(t, name) })
	}
	h.ready(t, agent)
	agent.Terminate()
	<-agent.Ended()
	if left := temporaries(t, h.dir); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// faultDir is the directory that a fault happens to.
func (h *host) faultDir(name string) string {
	if name == "state removed" {
		return h.path("state")
	}
	return h.path(strings.ReplaceAll(name, " ", "-"))
}

func (h *host) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(h.path(name))
	must(t, err)
	return string(data)
}

// whileBroken checks what a reader sees, what the log says and what the probe says of a fault.
func (h *host) whileBroken(t *testing.T, agent *process, name, before string) {
	fault, dir := diskFaults[name], h.faultDir(name)
	message := "writing sink failed, the old content stays"
	if dir == h.path("state") {
		message = "saving state failed, a restart would not know the newest token"
	}
	until(t, "the log tells", func() bool {
		return agent.Log.Count(message, dir, fault.log, `"retry_in"`) > 0
	})
	if dir == h.path("state") {
		return
	}
	if probe := h.probe(t); !strings.Contains(probe, dir+"/token") {
		t.Errorf("the probe does not name the sink: %s", probe)
	}
	switch content, err := os.ReadFile(filepath.Join(dir, "token")); {
	case fault.gone:
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the reader gets %q, %v", content, err)
		}
	case err != nil || string(content) != before || !h.server.Valid(before):
		t.Errorf("the reader gets %q, %v, want the old token, which is good", content, err)
	}
}

// afterMending waits for the newest token to be where it should be, without anybody's help.
func (h *host) afterMending(t *testing.T, name string) {
	dir := h.faultDir(name)
	if dir == h.path("state") {
		until(t, "the state is saved again", func() bool {
			_, err := os.Stat(filepath.Join(dir, "t.age"))
			return err == nil
		})
		return
	}
	until(t, "the sink has the newest token", func() bool {
		content, _ := os.ReadFile(filepath.Join(dir, "token"))
		return string(content) == h.read(t, "sinks/token")
	})
}

func (h *host) probe(t *testing.T) string {
	t.Helper()
	response, err := http.Get("http://" + h.listen + "/readyz")
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return fmt.Sprintf("%d %s", response.StatusCode, body)
}
