//go:build unix

package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/credagent/credagent/internal/atomicfile"
)

const specialBits = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

func checkOwnership(attributes) error { return nil }

// match reports whether the open file has these attributes.
func (a attributes) match(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && a.matchInfo(file, info)
}

func (a attributes) matchInfo(file *os.File, info fs.FileInfo) bool {
	is, known := ownershipOf(info)
	return info.Mode()&(fs.ModePerm|specialBits) == a.shown && known && is == a.wanted() && hasACL(file, a.acl)
}

func ownershipOf(info fs.FileInfo) (ownership, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ownership{}, false
	}
	return ownership{int(stat.Uid), int(stat.Gid)}, true
}

// give sets the attributes of a new, still empty file, and verifies them before a token is written to it. It returns
// the file's resulting information.
func (a attributes) give(file *os.File) (fs.FileInfo, error) {
	// Remove an inherited ACL first: while the mode is 0600 it admits nobody, but a process that opened the empty
	// file later could read what is written to it.
	if err := clearACL(file); err != nil {
		return nil, err
	}
	// Then the owner: chown clears bits that chmod sets.
	if err := a.chown(file); errors.Is(err, errKept) {
		if err := a.learnOwner(file); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if err := file.Chmod(a.mode); err != nil {
		return nil, fmt.Errorf("setting mode %04o: %w", a.mode, atomicfile.Cause(err))
	}
	if a.acl != nil { // otherwise clearACL has removed it
		if err := a.setACL(file); err != nil {
			return nil, err
		}
	}
	info, err := file.Stat()
	if err != nil || !a.matchInfo(file, info) {
		return nil, errors.New("its mode, owner or readers are not what was set; put it on a file system that keeps them")
	}
	return info, nil
}

// mend restores these attributes on a file that workloads read. The ACL comes before the mode, because it sets both
// atomically: a chmod alone would briefly lock out the readers, or admit the group instead.
func (a attributes) mend(file *os.File) error {
	if err := a.chown(file); err != nil {
		return err
	}
	if err := a.setACL(file); err != nil {
		return err
	}
	return file.Chmod(a.shown)
}

// errKept means that a file keeps an owner or a group that is not configured.
var errKept = errors.New("its owner stays")

func (a attributes) chown(file *os.File) error {
	if a.uid != unset || a.gid != unset {
		if err := file.Chown(a.uid, a.gid); err != nil {
			return a.chownError(err)
		}
	}
	info, err := file.Stat()
	if err != nil {
		return atomicfile.Cause(err)
	}
	is, known := ownershipOf(info)
	if want := a.wanted(); known && is != want && file.Chown(want.uid, want.gid) != nil {
		return errKept
	}
	return nil
}

// learnOwner records the owner of a new file as the one that the file system gives to all new files. An existing file
// may belong to somebody else, and proves nothing.
func (a attributes) learnOwner(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return atomicfile.Cause(err)
	}
	if is, known := ownershipOf(info); known {
		a.defaultOwner.Store(&is)
	}
	return nil
}

func (a attributes) chownError(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("changing its owner to %s: %w; grant CAP_CHOWN, run as that user, or use readers", a.ownership(), atomicfile.Cause(err))
	default:
		return fmt.Errorf("changing its owner to %s: %w", a.ownership(), atomicfile.Cause(err))
	}
}

func (a attributes) ownership() string {
	switch {
	case a.gid == unset:
		return fmt.Sprintf("user %d", a.uid)
	case a.uid == unset:
		return fmt.Sprintf("group %d", a.gid)
	default:
		return fmt.Sprintf("user %d, group %d", a.uid, a.gid)
	}
}
