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
	if err != nil || info.Mode()&(fs.ModePerm|specialBits) != a.shown {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || a.uid != unset && stat.Uid != uint32(a.uid) || a.gid != unset && stat.Gid != uint32(a.gid) {
		return false
	}
	return hasACL(file, a.acl)
}

// give sets up a new, still empty file.
func (a attributes) give(file *os.File) error {
	// The owner comes first: chown clears bits that chmod sets.
	if err := a.chown(file); err != nil {
		return err
	}
	if err := file.Chmod(a.mode); err != nil {
		return fmt.Errorf("setting mode %04o: %w", a.mode, atomicfile.Cause(err))
	}
	return a.setACL(file)
}

// mend brings a file that workloads read back to these attributes. The ACL comes before the
// mode, because it sets both in one step: a chmod alone would for a moment shut out the readers,
// or let in the group in their place.
func (a attributes) mend(file *os.File) error {
	if err := a.chown(file); err != nil {
		return err
	}
	if err := a.setACL(file); err != nil {
		return err
	}
	return file.Chmod(a.shown)
}

func (a attributes) chown(file *os.File) error {
	if a.uid == unset && a.gid == unset {
		return nil
	}
	err := file.Chown(a.uid, a.gid)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("changing its owner to %s: %w; grant CAP_CHOWN, run as that user, or use readers", a.ownership(), atomicfile.Cause(err))
	}
	if err != nil {
		return fmt.Errorf("changing its owner to %s: %w", a.ownership(), atomicfile.Cause(err))
	}
	return nil
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
