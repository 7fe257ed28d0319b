package host

import (
	"io/fs"
	"os"
)

// Directory describes a directory and the conditions for opening it.
type Directory struct {
	Path string
	// Owner is a user who may own directories in the path, besides root and the agent's own user, but no links;
	// [NoOwner] for none.
	Owner int
	// User is the agent's user, if it is not the user of this process; 0 is this process's own.
	User int
	// Make is the mode with which a missing last component is created; 0 creates nothing.
	Make fs.FileMode
}

// NoOwner stands for no user.
const NoOwner = -1

// Open opens the directory and holds it open: operations through it affect that directory, whatever happens to the
// path meanwhile. Every directory of the path up to the root has to belong to root, the agent's user or Owner, every
// link in it to root or the agent's user, and nobody else may be able to replace it. The error names the component
// and the fix. It is an [fs.ErrNotExist] if a component is missing.
func (d Directory) Open() (*os.Root, error) { return d.open() }

// File describes a file to read and the conditions for opening it: those of [Directory], for the directories that the
// path leads through.
type File struct {
	Path  string
	Owner int
	// Links lets the file itself be reached by symbolic links, as mounted secrets are.
	Links bool
}

// Open opens the file. It never waits for a pipe's other end, and refuses anything but regular files.
func (f File) Open() (*os.File, error) { return f.open() }
