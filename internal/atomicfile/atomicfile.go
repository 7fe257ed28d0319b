// Package atomicfile owns the one way in which credagent writes a file: it completes a new file next to the old one
// and renames it into place.
//
// A reader that opens the name gets all of the old content or all of the new content, whatever happens to the writer
// meanwhile. One caveat: none of this holds in a directory in which others may write; the caller has to check that.
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
	// MaxName is the maximum length of a file's name in bytes: NAME_MAX on every relevant file system, minus what a
	// temporary file's name adds.
	MaxName = 255 - len(Prefix) - len("-") - 2*randomBytes

	randomBytes = 8
)

// File describes a file to be written.
type File struct {
	Name    string
	Content []byte
	// Old is the file now at the name, nil if there is none. The new file gets a different modification time.
	Old fs.FileInfo
	// Prepare sets the owner and mode of the new, still empty file, whose mode is 0600; nil leaves them. It may
	// return the file's resulting information, which saves a system call if there is an Old.
	Prepare func(*os.File) (fs.FileInfo, error)
}

// Replace puts the file at its name in the directory. After an error the old file is unchanged and no temporary file
// is left. The new file is sure to survive a crash of the machine only after [SyncDirectory].
func Replace(dir *os.Root, f File) error {
	err := f.replace(dir)
	if errors.Is(err, fs.ErrNotExist) {
		// A concurrent RemoveLeftOvers for the same name removed the temporary file.
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

// differInTime gives the new file a modification time that differs from the old one's: some consumers poll it, and a
// file system's clock can be coarser than the time between two writes.
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

// ErrReplaced means that a file was replaced by another one meanwhile.
var ErrReplaced = errors.New("it was replaced meanwhile")

// Open opens for reading the file that info, from Lstat, describes, and no replacement: [os.Root] itself would follow
// a link within the directory.
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
// names that are ours. Files that cannot be removed are left: the reason, such as a read-only file system or a
// missing permission, also stops the next write, which reports it.
func RemoveLeftOvers(root *os.Root, ours func(name string) bool) {
	for name, temporaries := range LeftOvers(root) {
		if ours(name) {
			RemoveAll(root, temporaries)
		}
	}
}

// LeftOvers returns the temporary files in the directory, by the names that they were created for.
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

// IsAbandoned reports whether a temporary file was created by this process's user or by owner, and its process no
// longer writes it. It returns false if that cannot be determined.
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

// temporaryOf returns the name that a temporary file was created for. It ends in a random part of fixed length, so
// that the temporary files of names with a common prefix are not confused.
func temporaryOf(temporary string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(temporary, Prefix)
	cut := len(rest) - 2*randomBytes - len("-")
	if !ok || cut < 1 || rest[cut] != '-' {
		return "", false
	}
	_, err := hex.DecodeString(rest[cut+1:])
	return rest[:cut], err == nil
}

// Cause drops the call and the path that the os package adds to an error; the caller adds the file's own path.
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
