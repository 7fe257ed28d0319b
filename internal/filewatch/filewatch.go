// Package filewatch detects changed files without reading them: replaced by a rename, by the swap of a symbolic link
// in the path, or written in place.
//
// It watches directories, because a watch of a file ends with the file. It also compares the results of stat, because
// not every file system reports changes. On such a file system it misses a change in place that preserves size and
// modification time.
package filewatch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// SettleTime is how long to wait after a change before reading files: related changes are often more than one write.
const SettleTime = time.Second

// Notifier reports changes in directories.
type Notifier interface {
	Add(dir string) error // may be called again for the same directory
	Changes() <-chan fsnotify.Event
	Failures() <-chan error // changes may have been missed
	Close() error
}

// system is the system's own notifier.
type system struct{ *fsnotify.Watcher }

// Changes implements [Notifier].
func (w system) Changes() <-chan fsnotify.Event { return w.Events }

// Failures implements [Notifier].
func (w system) Failures() <-chan error { return w.Errors }

// New opens the system's notifier: inotify on Linux.
func New() (Notifier, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return system{watcher}, nil
}

// Watch watches every directory in which a change can make one of the paths lead to another file:
// the file's own, and those of the links on the way. Call it again periodically: a directory that was removed and
// recreated is new to the system. A directory that cannot be watched is not an error, because its files can still be
// polled.
func Watch(n Notifier, files []string) {
	for _, file := range files {
		for _, dir := range dirsOf(file) {
			_ = n.Add(dir)
		}
	}
}

// maxLinks limits the links in a path, as the kernel does.
const maxLinks = 40

// dirsOf returns the directories that determine which file a path leads to.
func dirsOf(path string) []string {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	var dirs []string
	at, rest := string(filepath.Separator), path
	if volume := filepath.VolumeName(path); volume != "" {
		at, rest = volume+at, path[len(volume):]
	}
	for links := 0; ; {
		rest = strings.TrimLeft(rest, string(filepath.Separator))
		name, after, more := strings.Cut(rest, string(filepath.Separator))
		next := filepath.Join(at, name)
		target, err := os.Readlink(next)
		switch {
		case err == nil && links < maxLinks:
			links++
			dirs = append(dirs, at)
			rest = target + string(filepath.Separator) + after
			if filepath.IsAbs(target) {
				at = filepath.VolumeName(at) + string(filepath.Separator)
			}
		case !more || after == "":
			return append(dirs, at)
		default:
			at, rest = next, after
		}
	}
}

// Fingerprint is what stat reports about the files that the paths lead to. It changes when one of them is replaced or
// written.
func Fingerprint(files []string) string {
	all := ""
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			all += "missing;"
			continue
		}
		target, _ := filepath.EvalSymlinks(file)
		all += fmt.Sprintf("%s,%d,%d,%v,%s;", target, info.Size(), info.ModTime().UnixNano(), info.Mode(), inode(info))
	}
	return all
}

// Settling is a timer that fires a [SettleTime] after the first of many changes. Later changes do not postpone it,
// because in a busy directory it would never fire. It belongs to one goroutine.
type Settling struct {
	timer   *time.Timer
	pending bool
}

// NewSettling returns a stopped timer.
func NewSettling() *Settling {
	s := &Settling{timer: time.NewTimer(time.Hour)}
	s.timer.Stop()
	return s
}

// Touch notes a change.
func (s *Settling) Touch() {
	if !s.pending {
		s.pending = true
		s.timer.Reset(SettleTime)
	}
}

// C receives when the changes should be checked; then call [Settling.Done].
func (s *Settling) C() <-chan time.Time { return s.timer.C }

// Done makes the next change start the timer again.
func (s *Settling) Done() { s.pending = false }

// Stop stops the timer.
func (s *Settling) Stop() { s.timer.Stop() }
