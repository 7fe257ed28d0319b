package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/atomicfile"
	"github.com/credagent/credagent/internal/host"
	"github.com/credagent/credagent/sink"
)

// probe renders the content with which a sink is tested.
type probe struct{ content string }

// Tokens implements [sink.Renderer].
func (p *probe) Tokens() []string { return nil }

// Render implements [sink.Renderer].
func (p *probe) Render(sink.Lookup) ([]byte, error) { return []byte(p.content), nil }

// writes tests writing each sink, in a directory beside it.
func (e *exam) writes(context.Context) []Finding {
	var all []Finding
	for _, s := range e.files() {
		if info, err := os.Stat(filepath.Dir(s.Path)); err != nil || !info.IsDir() {
			continue // already reported
		}
		told, err := tryWriting(s)
		switch {
		case err != nil:
			all = append(all, about(label(s), refused(err, filepath.Dir(s.Path)))...)
		case !told:
			all = append(all, about(label(s), Finding{
				Level: Warning, What: "its file system tells of no change (inotify)",
				Why: "a reader that waits to be told keeps the old token", Fix: elsewhere(fileSystemOf(filepath.Dir(s.Path)), "see that its readers open the file anew for each use"),
			})...)
		}
	}
	return all
}

// tryWriting writes and replaces a file with the sink's attributes, in a separate directory on the same file system,
// and reports whether a watcher is notified.
func tryWriting(s config.Sink) (told bool, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(s.Path), atomicfile.Prefix+"doctor-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	content := &probe{"one"}
	options := sink.Options{
		Path: filepath.Join(dir, "probe"), Mode: s.Mode, Owner: s.Owner, Group: s.Group, Readers: s.Readers, Renderer: content,
	}
	file, err := sink.New(options)
	if err == nil {
		err = replaced(file)
	}
	if err == nil {
		content.content = "another"
		told, err = watched(dir, func() error { return replaced(file) })
	}
	if wrapped := errors.Unwrap(err); wrapped != nil {
		err = wrapped // without the probe's path
	}
	return told, err
}

// replaced writes a file and checks the result.
func replaced(file *sink.File) error {
	if _, err := file.Write(nil); err != nil {
		return err
	}
	holds, err := file.Holds(nil)
	if err == nil && !holds {
		return errors.New("what was written is not what is read back; put it on a file system that replaces files as it should")
	}
	return err
}

// elsewhere advises a tmpfs, or something else if the path is already on one.
func elsewhere(at fileSystem, other string) string {
	if at.memory {
		return other
	}
	return "put it on a tmpfs, or " + other
}

func refused(err error, dir string) Finding {
	f := Finding{Level: Problem, Why: "the sink will not get its token"}
	message, fix, _ := strings.Cut(atomicfile.Cause(err).Error(), "; ")
	f.What, f.Fix = "a file like it cannot be written beside it: "+message, fix
	var inPath *fs.PathError
	switch {
	case host.IsImmutable(dir):
		f.What = fmt.Sprintf("directory %q may not be changed by anybody (chattr +i or +a)", dir)
		f.Fix = "chattr -ia " + quote(dir)
	case errors.As(err, &inPath) && errors.Is(err, fs.ErrPermission):
		f.What = fmt.Sprintf("%s may not write to directory %q", userName(os.Geteuid()), dir)
		f.Fix = "run this as the agent's user, or make the directory that user's: chown USER " + quote(dir)
	case f.Fix == "" && errors.Is(err, syscall.ENOSPC):
		f.Fix = "free some space or inodes; the old tokens stay until then"
	case f.Fix == "" && errors.Is(err, syscall.EROFS):
		f.Fix = "mount it to be written to; in a hardened unit, ReadWritePaths= or RuntimeDirectory="
	case f.Fix == "":
		f.Fix = "put the sink on a file system that keeps modes, owners and replaced files"
		if !fileSystemOf(dir).memory {
			f.Fix += ", such as a tmpfs"
		}
	}
	return f
}
