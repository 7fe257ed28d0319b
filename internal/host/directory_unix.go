//go:build unix

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks bounds the links on the way, as the kernel does.
const maxLinks = 40

// step is one component of a path: a directory, a link or a file.
type step struct {
	path  string // from the root, without links
	uid   int
	mode  fs.FileMode
	mount bool // something is mounted here
}

// judge decides which steps are safe. It is a pure function of the file system's answers.
type judge struct {
	agent int // the agent's user
	owner int // may own directories too, unless it is NoOwner
}

func (d Directory) judge() judge {
	if d.User != 0 {
		return judge{d.User, d.Owner}
	}
	return judge{os.Geteuid(), d.Owner}
}

// ownership refuses a step that belongs to another user, who could replace everything below it. The file's owner may
// own directories, but no links: a link could redirect the agent to where only the agent may write.
func (j judge) ownership(s step) error {
	agents := fmt.Sprintf("root or the agent's user (uid %d)", j.agent)
	if s.uid == 0 || s.uid == j.agent {
		return nil
	}
	if s.mode&fs.ModeSymlink != 0 {
		return fmt.Errorf("the symbolic link %q was made by uid %d, not by %s, and can lead elsewhere at any time; configure the path that it points to, or run: chown -h %d %q",
			s.path, s.uid, agents, j.agent, s.path)
	}
	whose := agents
	if j.owner != NoOwner {
		if s.uid == j.owner {
			return nil
		}
		whose = fmt.Sprintf("root, the agent's user (uid %d) or the file's owner (uid %d)", j.agent, j.owner)
	}
	return fmt.Errorf("directory %q belongs to uid %d, who could replace what is in it, and not to %s; run: chown %d %q",
		s.path, s.uid, whose, j.agent, s.path)
}

// chain refuses a path, given from the root down, with a directory in which others can replace entries. The mount
// point of a pod's volume is open to everybody, but a directory that the agent has created there is its own.
func (j judge) chain(way []step) error {
	for i, s := range way {
		if !othersReplace(s) {
			continue
		}
		below := len(way) - 1 - i
		volume := s.mount && s.uid == 0 && s.mode.Perm() == 0o777
		if below == 1 && volume && way[i+1].uid == j.agent {
			continue
		}
		return openToOthers(s)
	}
	return nil
}

func othersReplace(s step) bool { return s.mode&0o022 != 0 && s.mode&fs.ModeSticky == 0 }

func openToOthers(s step) error {
	return fmt.Errorf("directory %q (mode %04o) can be written to by others, who could replace the file; run: chmod go-w %q",
		s.path, s.mode.Perm(), s.path)
}

// walk follows a path from the root, and holds each directory on it open until it is closed.
type walk struct {
	judge
	way   []*held // from the root to the current component
	rest  []string
	links int
}

func newWalk(j judge, path string) (*walk, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	root, err := holdRoot()
	if err != nil {
		return nil, err
	}
	w := &walk{judge: j, way: []*held{root}, rest: components(absolute)}
	if err := j.ownership(root.step); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func components(path string) []string { return strings.Split(path, string(filepath.Separator)) }

func (w *walk) close() {
	for _, h := range w.way {
		h.close()
	}
}

func (w *walk) here() *held { return w.way[len(w.way)-1] }

// directories walks until only the last keep components are left.
func (w *walk) directories(keep int) error {
	for len(w.rest) > keep {
		name := w.rest[0]
		w.rest = w.rest[1:]
		if err := w.enter(name); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) enter(name string) error {
	switch name {
	case "", ".":
		return nil
	case "..":
		if len(w.way) > 1 {
			w.here().close()
			w.way = w.way[:len(w.way)-1]
		}
		return nil
	}
	next, err := w.here().hold(name)
	if err != nil {
		return err
	}
	switch {
	case next.mode&fs.ModeSymlink != 0:
		defer next.close()
		return w.follow(next)
	case !next.mode.IsDir():
		next.close()
		return syscall.ENOTDIR
	}
	if err := w.ownership(next.step); err != nil {
		next.close()
		return err
	}
	w.way = append(w.way, next)
	return nil
}

// follow follows a link that nobody else can have made.
func (w *walk) follow(link *held) error {
	if w.links++; w.links > maxLinks {
		return syscall.ELOOP
	}
	if err := w.ownership(link.step); err != nil {
		return err
	}
	if othersReplace(w.here().step) {
		return openToOthers(w.here().step)
	}
	target, err := link.readLink()
	if err != nil {
		return err
	}
	if filepath.IsAbs(target) {
		for _, h := range w.way[1:] {
			h.close()
		}
		w.way = w.way[:1]
	}
	w.rest = append(components(target), w.rest...)
	return nil
}

func (w *walk) sound() error {
	way := make([]step, len(w.way))
	for i, h := range w.way {
		way[i] = h.step
	}
	return w.chain(way)
}

func (d Directory) open() (*os.Root, error) {
	if root := d.openWithoutLinks(); root != nil {
		return root, nil
	}
	w, err := newWalk(d.judge(), d.Path)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if err := w.directories(1); err != nil {
		return nil, err
	}
	links := w.links
	err = w.directories(0)
	if d.Make != 0 && errors.Is(err, fs.ErrNotExist) && w.links == links { // never through a dangling link
		if err := w.here().makeDirectory(filepath.Base(d.Path), d.Make); err != nil {
			return nil, fmt.Errorf("making it: %w", err)
		}
		err = w.enter(filepath.Base(d.Path))
	}
	if err == nil {
		err = w.sound()
	}
	if err != nil {
		return nil, err
	}
	return w.here().root()
}

// errReplaced means that a directory in the path was moved between two checks of it.
var errReplaced = errors.New("it was replaced while it was opened")

func (f File) open() (*os.File, error) {
	w, err := newWalk(judge{os.Geteuid(), f.Owner}, f.Path)
	if err != nil {
		return nil, err
	}
	defer w.close()
	for {
		if err := w.directories(1); err != nil {
			return nil, err
		}
		if err := w.sound(); err != nil {
			return nil, err
		}
		last, err := w.here().hold(w.rest[0])
		if err != nil {
			return nil, err
		}
		switch {
		case last.mode.IsRegular():
			file, err := w.here().openFile(w.rest[0], last)
			last.close()
			return file, err
		case last.mode&fs.ModeSymlink == 0:
			err = fmt.Errorf("it is not a regular file (%s)", last.mode)
		case !f.Links:
			err = errors.New("it is a symbolic link; give the path that it points to")
		default:
			w.rest = nil
			err = w.follow(last)
		}
		last.close()
		if err != nil {
			return nil, err
		}
	}
}

// same reports whether info describes the held component.
func (h *held) same(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && uint64(stat.Dev) == h.device && uint64(stat.Ino) == h.inode //nolint:unconvert // their types differ between systems
}

// root opens the directory as an [os.Root], and verifies that it is the one that was checked.
func (h *held) root() (*os.Root, error) {
	root, err := os.OpenRoot(h.path)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil && !h.same(info) {
		err = errReplaced
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// OwnerOf returns the uid of a file's owner.
func OwnerOf(info fs.FileInfo) (uid int, known bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
