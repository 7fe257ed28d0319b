// Package filewatch notices that files are not what they were, without reading them: replaced by a
// rename, by the swap of a symbolic link on the way, or written in place.
//
// It watches directories, because a watch of a file ends with the file; and it compares what stat
// says, because not every file system reports changes. It does not see a change in place that
// leaves size and modification time as they were on such a file system.
package filewatch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// SettleTime is how long after a change files are best left alone: what belongs together is often
// more than one write.
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
// the file's own, and those of the links on the way. It is to be called again now and then: a
// directory that was removed and made again is a new one to the system. What cannot be watched is
// not an error, it can still be looked at.
func Watch(n Notifier, files []string) {
	for _, file := range files {
		for _, dir := range dirsOf(file) {
			_ = n.Add(dir)
		}
	}
}

// maxLinks bounds the links on the way to a file, as the kernel does.
const maxLinks = 40

// dirsOf returns the directories that decide which file a path leads to.
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

// Fingerprint is what stat reports about the files that the paths lead to. It differs when one of them was
// replaced or written.
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

// Settling is a timer that fires a [SettleTime] after the first of many changes. More changes do not
// put that off, or a busy directory would for ever. It belongs to one goroutine.
type Settling struct {
	timer   *time.Timer
	pending bool
}

// NewSettling returns a timer that does not run.
func NewSettling() *Settling {
	s := &Settling{timer: time.NewTimer(time.Hour)}
	s.timer.Stop()
	return s
}

// Touch takes note of a change.
func (s *Settling) Touch() {
	if !s.pending {
		s.pending = true
		s.timer.Reset(SettleTime)
	}
}

// C receives when the changes are to be checked; then [Settling.Done] is to be called.
func (s *Settling) C() <-chan time.Time { return s.timer.C }

// Done makes the next change start the timer again.
func (s *Settling) Done() { s.pending = false }

// Stop stops the timer.
func (s *Settling) Stop() { s.timer.Stop() }
