package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/atomicfile"
	"github.com/credagent/credagent/internal/host"
)

// place is a path that the agent writes.
type place struct {
	label  string
	path   string
	owner  int // may own the directory, besides root and the agent
	socket bool
}

func (e *exam) places() []place {
	var all []place
	for _, s := range e.files() {
		owner, err := host.User(s.Owner)
		if err != nil {
			owner = host.NoOwner // none, or nobody who is known: that is found elsewhere
		}
		all = append(all, place{label: label(s), path: s.Path, owner: owner})
	}
	if s := e.Config.Socket; s != nil {
		all = append(all, place{label: "socket", path: s.Path, owner: host.NoOwner, socket: true})
	}
	if i := e.Config.Identity; i != nil {
		all = append(all, place{label: "identity_endpoint.header_file", path: i.HeaderFile, owner: host.NoOwner})
	}
	return all
}

// files are the sinks that are files.
func (e *exam) files() []config.Sink {
	return slices.DeleteFunc(slices.Clone(e.Config.Sinks), func(s config.Sink) bool { return !s.IsFile() })
}

func label(s config.Sink) string { return "sink " + quote(s.Path) }

// writtenDirs returns the directories of the places, each once.
func (e *exam) writtenDirs() []string {
	var dirs []string
	for _, p := range e.places() {
		dirs = appendNew(dirs, filepath.Dir(p.path))
	}
	return dirs
}

// directories checks where the agent writes, and what already exists there.
func (e *exam) directories(context.Context) []Finding {
	var all []Finding
	for _, p := range e.places() {
		all = append(all, about(p.label, p.checkDirectory(e.uid)...)...)
		all = append(all, about(p.label, p.standing()...)...)
	}
	return all
}

func (p place) checkDirectory(agent int) []Finding {
	dir := filepath.Dir(p.path)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Finding{missing(dir, agent)}
	case err != nil:
		return []Finding{{
			Level: Problem, What: fmt.Sprintf("directory %q cannot be checked: %v", dir, atomicfile.Cause(err)),
			Why: "the agent does not start", Fix: "let the agent's user enter it and what is above it",
		}}
	case !info.IsDir():
		return []Finding{{
			Level: Problem, What: quote(dir) + " is not a directory", Why: "the agent does not start", Fix: "remove it, or configure another path",
		}}
	}
	if found := p.refused(agent); found != nil {
		return found
	}
	if mode := info.Mode(); othersWrite(mode) {
		return []Finding{{
			Level: Warning, What: fmt.Sprintf("directory %q is for everybody's files", dir),
			Why: "another user can create a sink's name before the agent does, and a cleaner of temporary files may remove it",
			Fix: "use a directory of the agent's own, such as /run/credagent",
		}}
	}
	return nil
}

// refused reports what the agent will refuse about the directory and those above it.
func (p place) refused(agent int) []Finding {
	root, err := host.Directory{Path: filepath.Dir(p.path), Owner: p.owner, User: agent}.Open()
	if err == nil {
		root.Close()
		return nil
	}
	message, fix, judged := strings.Cut(err.Error(), "; ")
	if !judged {
		return nil // it could not be checked; the agent's permissions are checked elsewhere
	}
	return []Finding{{
		Level: Problem, What: message,
		Why: "another user could replace a sink with their own token, or read the agent's, so the agent refuses it", Fix: strings.TrimPrefix(fix, "run: "),
	}}
}

// missing describes how to create a directory persistently: one under /run is gone after a reboot.
func missing(dir string, agent int) Finding {
	f := Finding{Level: Problem, What: fmt.Sprintf("directory %q is missing", dir), Why: "the agent does not start where it cannot make it"}
	below, underRun := strings.CutPrefix(dir, "/run/")
	if !underRun {
		f.Fix = fmt.Sprintf("install -d -m 0755 -o %s %q", userName(agent), dir)
		return f
	}
	f.Why += ", and a directory that is made by hand under /run is gone after the next boot"
	f.Fix = fmt.Sprintf("RuntimeDirectory=%s in the agent's unit, or in tmpfiles.d: d %s 0755 %s - -", below, dir, userName(agent))
	return f
}

// unsafeAbove finds a directory above one that others could move away.
func unsafeAbove(dir string) []Finding {
	for above := filepath.Dir(dir); ; above = filepath.Dir(above) {
		info, err := os.Stat(above)
		if err == nil && othersWrite(info.Mode()) && info.Mode()&fs.ModeSticky == 0 {
			return []Finding{{
				Level: Warning, What: fmt.Sprintf("others may write to directory %q (mode %04o), which is above %q", above, info.Mode().Perm(), dir),
				Why: "they could put another directory in its place", Fix: "chmod go-w " + quote(above),
			}}
		}
		if above == filepath.Dir(above) {
			return nil
		}
	}
}

func othersWrite(mode fs.FileMode) bool { return mode.Perm()&0o022 != 0 }

// standing checks what exists at the path of a place.
func (p place) standing() []Finding {
	info, err := os.Lstat(p.path)
	if err != nil {
		return nil
	}
	f := Finding{Level: Problem, Why: "the agent refuses it"}
	switch mode := info.Mode(); {
	case p.socket && mode&fs.ModeSocket != 0, !p.socket && mode.IsRegular():
		return nil
	case mode&fs.ModeSymlink != 0:
		f.What, f.Fix = quote(p.path)+" is a symbolic link", "remove it, or configure the path that it points to"
	case mode.IsDir():
		f.What, f.Fix = quote(p.path)+" is a directory", "remove it, or configure the path of a file in it"
	default:
		f.What, f.Fix = fmt.Sprintf("something else is at %q (%s)", p.path, mode), "remove it, or configure another path"
	}
	return []Finding{f}
}

// configuration checks who can change the configuration.
func (e *exam) configuration(context.Context) []Finding {
	file := e.Config.Source
	info, err := os.Stat(file)
	if !filepath.IsAbs(file) {
		file, _ = filepath.Abs(file)
	}
	if err != nil || !info.Mode().IsRegular() { // the environment
		return nil
	}
	found := unsafeAbove(file)
	if othersWrite(info.Mode()) {
		found = append(found, Finding{
			Level: Problem, What: fmt.Sprintf("others may write to the configuration (mode %04o)", info.Mode().Perm()),
			Why: "they could have tokens written where they can read them", Fix: "chmod go-w " + quote(file),
		})
	}
	for _, warning := range e.Config.Warnings {
		found = append(found, Finding{Level: Warning, What: warning.String()})
	}
	return about("configuration "+quote(e.Config.Source), found...)
}

func quote(s string) string { return strconv.Quote(s) }

// resolved returns a path without links in its directory.
func resolved(path string) string {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return path
}

// ancestors returns a directory and all above it, the root first.
func ancestors(dir string) []string {
	all := []string{dir}
	for dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		all = append(all, dir)
	}
	slices.Reverse(all)
	return all
}
