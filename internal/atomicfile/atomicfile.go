// Package atomicfile owns the one way in which credagent writes a file: a new file is made whole
// beside the old one and takes its place in one step.
//
// Whoever opens the name sees the whole old content or the whole new content, whatever happens to
// the writer in between. One caveat: a directory in which others may write undoes all of this, and
// whether it is safe is for the caller to check.
package atomicfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

const (
	// Prefix begins the names of temporary files.
	Prefix = ".credagent-"
	// MaxName is the most bytes that a file's name may have: NAME_MAX on every file system that
	// matters, less what a temporary's name adds.
	MaxName = 255 - len(Prefix) - len("-") - 2*randomBytes

	randomBytes = 8
)

// File is a file that is to be.
type File struct {
	Name    string
	Content []byte
	// Old is what stands at the name now, nil for nothing. The new file's modification time differs
	// from its.
	Old fs.FileInfo
	// Prepare gives the new, still empty file of mode 0600 its owner and mode; nil leaves them. It may
	// return what the file then is, which spares a system call where there is an Old.
	Prepare func(*os.File) (fs.FileInfo, error)
}

// Replace puts the file at its name in the directory. After an error the old file is as it was and
// nothing is left beside it. That the new one survives a crash of the machine is certain only after
// [SyncDirectory].
func Replace(dir *os.Root, f File) error {
	err := f.replace(dir)
	if errors.Is(err, fs.ErrNotExist) {
		// RemoveLeftOvers, called for the same name just now, took the temporary for one.
		err = f.replace(dir)
	}
	return err
}

func (f File) replace(dir *os.Root) (err error) {
	name := stem(f.Name) + randomName()
	file, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|openFlags, 0o600)
	if err != nil {
		return fmt.Errorf("creating a temporary file beside it: %w", Cause(err))
	}
	defer func() {
		if err == nil {
			return
		}
		file.Close()
		if left := dir.Remove(name); left != nil && !errors.Is(left, fs.ErrNotExist) {
			err = fmt.Errorf("%w; its temporary file %q stays: %w", err, name, Cause(left))
		}
	}()
	hold(file)
	var made fs.FileInfo
	if f.Prepare != nil {
		if made, err = f.Prepare(file); err != nil {
			return err
		}
	}
	if _, err := file.Write(f.Content); err != nil {
		return Cause(err)
	}
	if f.Old != nil && (made == nil || !made.ModTime().After(f.Old.ModTime())) {
		if err := differInTime(dir, name, f.Old); err != nil {
			return fmt.Errorf("setting its modification time: %w", Cause(err))
		}
	}
	if err := file.Sync(); err != nil {
		return Cause(err)
	}
	if err := file.Close(); err != nil {
		return Cause(err)
	}
	if err := dir.Rename(name, f.Name); err != nil {
		return fmt.Errorf("renaming its temporary file into place: %w", Cause(err))
	}
	return nil
}

// differInTime gives the new file another modification time than the old one's: some consumers
// poll it, and a file system's clock can be coarser than two writes are apart.
func differInTime(dir *os.Root, name string, old fs.FileInfo) error {
	for _, step := range []time.Duration{time.Microsecond, time.Second, 2 * time.Second} {
		info, err := dir.Lstat(name)
		if err != nil || !info.ModTime().Equal(old.ModTime()) {
			return err
		}
		if err := dir.Chtimes(name, time.Time{}, old.ModTime().Add(step)); err != nil {
			return err
		}
	}
	return nil
}

// ErrReplaced means that a file is not the one any more that it was a moment ago.
var ErrReplaced = errors.New("it was replaced meanwhile")

// Open opens for reading the file that info, of an Lstat, describes, and nothing that has taken its
// place: [os.Root] itself would follow a link within the directory.
func Open(dir *os.Root, name string, info fs.FileInfo) (*os.File, error) {
	file, err := dir.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, Cause(err)
	}
	opened, err := file.Stat()
	if err == nil && os.SameFile(info, opened) {
		return file, nil
	}
	file.Close()
	return nil, ErrReplaced
}

// RemoveLeftOvers removes the temporary files that killed processes left in the directory for the
// names that are ours. What cannot be removed is left: the reason, a read-only file system or a
// missing permission, stops the next write too, which reports it.
func RemoveLeftOvers(root *os.Root, ours func(name string) bool) {
	for name, temporaries := range LeftOvers(root) {
		if ours(name) {
			RemoveAll(root, temporaries)
		}
	}
}

// LeftOvers returns the temporary files in the directory, by the names that they were made for.
func LeftOvers(root *os.Root) map[string][]string {
	dir, err := root.Open(".")
	if err != nil {
		return nil
	}
	defer dir.Close()
	found := map[string][]string{}
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if of, ok := temporaryOf(name); ok {
			found[of] = append(found[of], name)
		}
	}
	return found
}

// IsAbandoned reports whether a temporary file was made by this process's user or by owner, and by a
// process that does not write it any more. Where that is not to be known, the answer is no.
func IsAbandoned(root *os.Root, temporary string, owner int) bool {
	return isAbandoned(root, temporary, owner)
}

// RemoveAll removes what [LeftOvers] has found for a name, as [RemoveLeftOvers] does.
func RemoveAll(root *os.Root, temporaries []string) {
	for _, name := range temporaries {
		_ = root.Remove(name)
	}
}

func stem(name string) string { return Prefix + name + "-" }

func randomName() string {
	var b [randomBytes]byte
	rand.Read(b[:]) // never fails, by its contract
	return hex.EncodeToString(b[:])
}

// temporaryOf returns the name that a temporary file was made for. A random part of fixed length
// ends it, so that the temporaries of names with a common prefix are not confused.
func temporaryOf(temporary string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(temporary, Prefix)
	cut := len(rest) - 2*randomBytes - len("-")
	if !ok || cut < 1 || rest[cut] != '-' {
		return "", false
	}
	_, err := hex.DecodeString(rest[cut+1:])
	return rest[:cut], err == nil
}

// Cause drops the call and the path that the os package adds to an error; whoever adds to it names
// the file's own path.
func Cause(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	var call *os.SyscallError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	case errors.As(err, &call):
		return call.Err
	default:
		return err
	}
}
