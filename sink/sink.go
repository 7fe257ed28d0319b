// Package sink owns the files that workloads read tokens from: how tokens are rendered, and how the result atomically
// replaces the old content.
//
// A program that embeds the agent lets it write the files, or implements [Sink] itself. Without the agent, a
// program creates a [File] with [New] and calls its Write whenever a token has changed.
//
// A reader that opens a sink's path gets all of the old content or all of the new content, whatever happens to the
// writer meanwhile: a full disk, a kill, a crash of the machine. The content is never readable by anyone outside the
// configured mode, owner and readers. One caveat: a write puts a new file at the path, so a reader that keeps the old
// file open, and a bind mount of that single file, keep the old content; mount or watch the directory.
package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/credagent/credagent/internal/atomicfile"
	"github.com/credagent/credagent/internal/host"
)

const (
	defaultMode   = 0o600
	directoryMode = 0o755 // others may enter: each file has its own permissions

	createIt = "create it, for example with RuntimeDirectory= or tmpfiles.d"
)

// Sink is where workloads read tokens: a [File], or what a program has of its own. If it has a method Close, that is
// called when it is no longer written.
type Sink interface {
	// Path is its name: a file's path, or another unique name.
	Path() string
	Tokens() []string
	// Write brings the sink to what lookup says. After an error the old content stays; a
	// [*LaterError] asks for a longer wait. It may block as long as its file system does.
	Write(lookup Lookup) (Outcome, error)
	// Mend repairs mode, owner and readers of a sink whose content is what lookup says already, and
	// leaves any other alone. It reports whether the sink then is as Write would leave it.
	Mend(lookup Lookup) (holds bool, err error)
	// Holds reports whether the sink is as Write would leave it.
	Holds(lookup Lookup) (bool, error)
	// Untouched reports that it cannot have changed since Holds said so. It may always say no.
	Untouched() bool
}

// Options describe one sink.
type Options struct {
	Path     string      // the file; a relative path is relative to the working directory
	Mode     fs.FileMode // exact permission bits, whatever the umask; 0 means 0600
	Owner    string      // user name or number; "" is the user of this process
	Group    string      // group name or number; "" is the group of this process
	Readers  []Principal // who else may read, as POSIX ACL entries; Linux only
	Renderer Renderer
}

// Principal is a local user or group, by name or number. Exactly one field is set.
type Principal struct {
	User  string
	Group string
}

// Outcome is what a write did.
type Outcome int

// The outcomes of a write.
const (
	Unchanged Outcome = iota // content, mode, owner and readers were already correct
	Mended                   // the content was correct; mode, owner or readers had changed
	Written                  // new content is in place
)

// String names the outcome in lower case.
func (o Outcome) String() string {
	switch o {
	case Written:
		return "written"
	case Mended:
		return "mended"
	default:
		return "unchanged"
	}
}

// File is one sink. Its methods may be called from several goroutines.
type File struct {
	path     string
	dir      string
	base     string
	renderer Renderer
	want     attributes
	syncDir  func(*os.Root) error

	mu       sync.Mutex
	unsynced bool   // a rename may not be on the disk yet; guarded by mu, as is wrote
	wrote    uint64 // the hash of what was last written; 0 before
	seen     atomic.Pointer[fileStamp]
}

// New checks what can be checked before the first token exists, and removes the temporary files that earlier
// processes left for this path and for others in its directory. It creates the directory if its parent exists: in a
// Kubernetes volume, which is writable by everybody, nothing else can create a safe one. It refuses a path that is a
// symbolic link or not a regular file, a directory that it cannot create, and a path in which others could replace a
// component: each one up to the root has to belong to root, the user of this process or Owner, and must not be
// writable by anybody else unless it has the sticky bit.
func New(o Options) (*File, error) { return new(Batch).New(o) }

// Batch creates several sinks, each like [New], but searches a directory that they share only once for temporary
// files.
type Batch struct {
	leftOvers map[string]map[string][]string // by directory and name
}

// New is the function [New].
func (b *Batch) New(o Options) (*File, error) {
	f, err := b.prepare(o)
	if err != nil {
		return nil, fmt.Errorf("preparing sink %q: %w", o.Path, err)
	}
	return f, nil
}

func (b *Batch) prepare(o Options) (*File, error) {
	if o.Renderer == nil {
		return nil, errors.New("it has no renderer; choose a format")
	}
	path, err := checkPath(o.Path)
	if err != nil {
		return nil, err
	}
	want, err := resolve(o)
	if err != nil {
		return nil, err
	}
	f := &File{
		path: path, dir: filepath.Dir(path), base: filepath.Base(path),
		renderer: o.Renderer, want: want, syncDir: atomicfile.SyncDirectory,
	}
	root, err := f.openOrMake(directoryMode)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if _, err := f.standing(root); err != nil {
		return nil, err
	}
	b.removeLeftOvers(f, root)
	return f, nil
}

// removeLeftOvers removes the temporary files of this path, and those of paths that are no longer written: a sink may
// have been renamed.
func (b *Batch) removeLeftOvers(f *File, root *os.Root) {
	if b.leftOvers == nil {
		b.leftOvers = map[string]map[string][]string{}
	}
	found, looked := b.leftOvers[f.dir]
	if !looked {
		found = atomicfile.LeftOvers(root)
		b.leftOvers[f.dir] = found
	}
	atomicfile.RemoveAll(root, found[f.base])
	delete(found, f.base)
	removeAbandoned(root, found, f.want.wanted().uid)
}

// removeAbandoned removes from the directory, and from found, the files that processes of this user or of owner left.
func removeAbandoned(root *os.Root, found map[string][]string, owner int) {
	for name, temporaries := range found {
		found[name] = slices.DeleteFunc(temporaries, func(temporary string) bool {
			abandoned := atomicfile.IsAbandoned(root, temporary, owner)
			if abandoned {
				atomicfile.RemoveAll(root, []string{temporary})
			}
			return abandoned
		})
	}
}

// RemoveLeftOvers removes the temporary files that earlier processes of this user, or of a sink's owner
// (-1 for none), left in a directory that no longer has a sink. It ignores a directory that is gone, or in which
// others could replace something.
func RemoveLeftOvers(dir string, owner int) {
	root, err := host.Directory{Path: dir, Owner: owner}.Open()
	if err != nil {
		return
	}
	defer root.Close()
	removeAbandoned(root, atomicfile.LeftOvers(root), owner)
}

func checkPath(path string) (string, error) {
	if path == "" || os.IsPathSeparator(path[len(path)-1]) {
		return "", errors.New("it names no file; give the path of a file")
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	base := filepath.Base(absolute)
	if strings.HasPrefix(base, atomicfile.Prefix) {
		return "", fmt.Errorf("names that begin with %q are kept for temporary files; choose another", atomicfile.Prefix)
	}
	if len(base) > atomicfile.MaxName {
		return "", fmt.Errorf("the file name has %d bytes; use at most %d", len(base), atomicfile.MaxName)
	}
	return absolute, nil
}

// Path returns the absolute path of the file.
func (f *File) Path() string { return f.path }

// Tokens returns the names of the tokens in the file, sorted.
func (f *File) Tokens() []string { return f.renderer.Tokens() }

// Write updates the file to the current tokens. After an error the file is unchanged and no temporary file is left,
// with one exception: if only the directory could not be synced, the new content is already in place, and the next
// call that can sync it reports Written. A token that lookup does not have is a [*MissingTokenError].
func (f *File) Write(lookup Lookup) (Outcome, error) {
	content, err := f.renderer.Render(lookup)
	if err != nil {
		return Unchanged, &RenderError{Path: f.path, Err: err}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	outcome, err := f.put(content)
	if err != nil {
		return Unchanged, fmt.Errorf("writing %q: %w", f.path, err)
	}
	return outcome, nil
}

// Mend restores the mode, owner and readers of a file that has the right content, and does not touch any other file.
// It reports whether the file is now as [File.Write] would leave it.
func (f *File) Mend(lookup Lookup) (holds bool, err error) {
	content, err := f.renderer.Render(lookup)
	if err != nil {
		return false, &RenderError{Path: f.path, Err: err}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	root, err := f.open()
	if err != nil {
		return false, fmt.Errorf("mending %q: %w", f.path, err)
	}
	defer root.Close()
	old, err := f.standing(root)
	if err != nil {
		return false, fmt.Errorf("mending %q: %w", f.path, err)
	}
	_, holds = f.settle(root, old, content)
	return holds, nil
}

// Holds reports whether the file exists with the expected content, mode, owner and readers, in a directory where
// nobody else can replace it. It changes nothing; an error means that it could not check.
func (f *File) Holds(lookup Lookup) (bool, error) {
	content, err := f.renderer.Render(lookup)
	if err != nil {
		return false, fmt.Errorf("rendering %q: %w", f.path, err)
	}
	root, err := f.open()
	if err != nil {
		return false, nil // the next write reports what is wrong with the directory
	}
	defer root.Close()
	info, err := root.Lstat(f.base)
	if err != nil || !info.Mode().IsRegular() {
		return false, nil
	}
	file, ok := f.openHolding(root, info, content)
	if !ok {
		return false, nil
	}
	defer file.Close()
	if !f.want.match(file) {
		return false, nil
	}
	f.seen.Store(stampOf(file))
	return true, nil
}

// Untouched reports whether the file is certainly unchanged since [File.Holds] last found it correct. It compares the
// file's change time, which costs one system call; if that is inconclusive, it returns false.
func (f *File) Untouched() bool {
	seen := f.seen.Load()
	return seen != nil && seen.matches(f.path)
}

func (f *File) put(content []byte) (Outcome, error) {
	// Open the directory again for each write, so that one that was removed and recreated works, and hold it open
	// meanwhile, so that swapping it half-way has no effect.
	root, err := f.open()
	if err != nil {
		return Unchanged, err
	}
	defer root.Close()
	old, err := f.standing(root)
	if err != nil {
		return Unchanged, err
	}
	hash := hashOf(content)
	outcome, settled := Unchanged, false
	if f.wrote == 0 || f.wrote == hash { // otherwise the existing content need not be read
		outcome, settled = f.settle(root, old, content)
	}
	if !settled {
		next := atomicfile.File{Name: f.base, Content: content, Old: old, Prepare: f.want.give}
		if err := atomicfile.Replace(root, next); err != nil {
			return Unchanged, f.explain(err)
		}
		outcome, f.unsynced = Written, true
	}
	f.wrote = hash
	if !f.unsynced {
		return outcome, nil
	}
	if err := f.syncDir(root); err != nil {
		return Unchanged, fmt.Errorf("syncing directory %q: %w", f.dir, atomicfile.Cause(err))
	}
	f.unsynced = false
	return Written, nil
}

// open opens the directory, if others cannot replace the file in it.
func (f *File) open() (*os.Root, error) { return f.openOrMake(0) }

func (f *File) openOrMake(mode fs.FileMode) (*os.Root, error) {
	root, err := host.Directory{Path: f.dir, Owner: f.want.owner(), Make: mode}.Open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening directory %q: %w; %s", f.dir, atomicfile.Cause(err), createIt)
	}
	if err != nil {
		return nil, fmt.Errorf("opening directory %q: %w", f.dir, atomicfile.Cause(err))
	}
	return root, nil
}

// explain describes what keeps even root from writing.
func (f *File) explain(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for _, path := range []string{f.path, f.dir} {
		if host.IsImmutable(path) {
			return fmt.Errorf("%w; %q is marked as not to be changed; run: chattr -ia %q", err, path, path)
		}
	}
	return err
}

// standing returns the file now at the path, nil if there is none, and refuses anything but regular files.
func (f *File) standing(root *os.Root) (fs.FileInfo, error) {
	info, err := root.Lstat(f.base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, atomicfile.Cause(err)
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return info, nil
	case mode&fs.ModeSymlink != 0:
		return nil, errors.New("it is a symbolic link; configure the path that it points to, or remove it")
	case mode.IsDir():
		return nil, errors.New("it is a directory; configure the path of a file in it, or remove it")
	default:
		return nil, fmt.Errorf("it is not a regular file (%s); remove it or configure another path", mode)
	}
}

// settle keeps a file that has the right content, and restores its other attributes.
func (f *File) settle(root *os.Root, old fs.FileInfo, content []byte) (Outcome, bool) {
	if old == nil {
		return Unchanged, false
	}
	file, ok := f.openHolding(root, old, content)
	if !ok {
		return Unchanged, false
	}
	defer file.Close()
	if f.want.match(file) {
		return Unchanged, true
	}
	// Another user's file cannot be restored without privileges, but it can be replaced.
	return Mended, f.want.mend(file) == nil && f.want.match(file)
}

// openHolding opens the file that info describes, if its content is right.
func (f *File) openHolding(root *os.Root, info fs.FileInfo, content []byte) (*os.File, bool) {
	if info.Size() != int64(len(content)) {
		return nil, false
	}
	file, err := atomicfile.Open(root, f.base, info)
	if err != nil {
		return nil, false
	}
	got := make([]byte, len(content)+1) // one more, to detect a longer one
	n, err := io.ReadFull(file, got)
	if errors.Is(err, io.ErrUnexpectedEOF) && bytes.Equal(got[:n], content) || len(content) == 0 && errors.Is(err, io.EOF) {
		return file, true
	}
	file.Close()
	return nil, false
}
