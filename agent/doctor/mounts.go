package doctor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mount is one line of a mountinfo file (proc_pid_mountinfo(5)).
type mount struct {
	device string // major:minor
	root   string // the mounted part of the file system
	point  string // where
}

// readMounts reads a mountinfo file; it skips lines that it does not understand.
func readMounts(in io.Reader) []mount {
	var all []mount
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 5 {
			all = append(all, mount{device: fields[2], root: unescape(fields[3]), point: unescape(fields[4])})
		}
	}
	return all
}

// unescape reads the octal escapes of spaces, tabs, newlines and backslashes.
func unescape(field string) string {
	var plain strings.Builder
	for i := 0; i < len(field); i++ {
		if field[i] == '\\' && i+4 <= len(field) {
			if c, err := strconv.ParseUint(field[i+1:i+4], 8, 8); err == nil {
				plain.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		plain.WriteByte(field[i])
	}
	return plain.String()
}

// mountsOf reads the mounts that a process sees.
func (e *exam) mountsOf(pid string) []mount {
	file, err := os.Open(filepath.Join(e.proc, pid, "mountinfo"))
	if err != nil {
		return nil
	}
	defer file.Close()
	return readMounts(file)
}

// source returns which file of which file system is at a path.
func source(mounts []mount, path string) (device, file string, ok bool) {
	var at mount
	for _, m := range mounts { // the last of equals is on top
		if within(path, m.point) && len(m.point) >= len(at.point) {
			at = m
		}
	}
	if at.point == "" {
		return "", "", false
	}
	below, err := filepath.Rel(at.point, path)
	return at.device, filepath.Join(at.root, below), err == nil
}

func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// alone returns where a single file is mounted by itself. After a replacement, the kernel shows that the mounted file
// no longer has a name.
func alone(mounts []mount, device, file string) (point string, ok bool) {
	for _, m := range mounts {
		if m.device == device && (m.root == file || m.root == file+"//deleted") {
			return m.point, true
		}
	}
	return "", false
}

// mounts finds sinks that are mounted as single files: here, where they could not be replaced, and in the namespaces
// of other processes, which would not see the replacement.
func (e *exam) mounts(context.Context) []Finding {
	own := e.mountsOf("self")
	others := e.otherNamespaces()
	var all []Finding
	for _, s := range e.files() {
		path := resolved(s.Path)
		if point, ok := mountPoint(own, path); ok {
			all = append(all, about(label(s), Finding{
				Level: Problem, What: fmt.Sprintf("%q is a bind mount of a single file", point),
				Why: "a mounted file cannot be replaced by another: every write will fail with \"device or resource busy\"",
				Fix: "mount its directory in its place, in Kubernetes without subPath",
			})...)
			continue
		}
		device, file, ok := source(own, path)
		if !ok {
			continue
		}
		if point, ok := alone(own, device, file); ok {
			all = append(all, about(label(s), stale("this host", point, filepath.Dir(s.Path)))...)
		}
		for _, other := range others {
			if point, ok := alone(other.mounts, device, file); ok {
				all = append(all, about(label(s), stale(other.who, point, filepath.Dir(s.Path)))...)
			}
		}
	}
	return all
}

func mountPoint(mounts []mount, path string) (string, bool) {
	for _, m := range mounts {
		if m.point == path {
			return m.point, true
		}
	}
	return "", false
}

func stale(who, point, dir string) Finding {
	return Finding{
		Level: Problem, What: fmt.Sprintf("%s sees it through a bind mount of the single file, at %q", who, point),
		Why: "the mount is of the file and not of its name: it goes on showing the token that was there when it was made",
		Fix: fmt.Sprintf("mount the directory %q in its place, in Kubernetes without subPath", dir),
	}
}

// namespace is a mount namespace and one of the processes in it.
type namespace struct {
	who    string
	mounts []mount
}

// otherNamespaces returns the mount namespaces of the processes that this user may inspect, except this process's
// own.
func (e *exam) otherNamespaces() []namespace {
	own, err := os.Readlink(filepath.Join(e.proc, "self", "ns", "mnt"))
	if err != nil {
		return nil
	}
	seen := map[string]bool{own: true}
	var all []namespace
	entries, _ := os.ReadDir(e.proc)
	for _, entry := range entries {
		pid := entry.Name()
		if _, err := strconv.Atoi(pid); err != nil {
			continue
		}
		name, err := os.Readlink(filepath.Join(e.proc, pid, "ns", "mnt"))
		if err != nil || seen[name] {
			continue
		}
		seen[name] = true
		all = append(all, namespace{who: e.process(pid), mounts: e.mountsOf(pid)})
	}
	return all
}

// process describes a process for people.
func (e *exam) process(pid string) string {
	name, _ := os.ReadFile(filepath.Join(e.proc, pid, "comm"))
	return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name)))
}
