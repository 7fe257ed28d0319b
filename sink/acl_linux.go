package sink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// The kernel's form of a POSIX ACL: include/uapi/linux/posix_acl.h and posix_acl_xattr.h.
const (
	aclAttribute = "system.posix_acl_access"
	aclVersion   = 2
	aclUserObj   = 0x01
	aclUser      = 0x02
	aclGroupObj  = 0x04
	aclGroup     = 0x08
	aclMask      = 0x10
	aclOther     = 0x20
	aclNoID      = 1<<32 - 1
	aclRead      = 4
)

// readersACL builds the ACL that lets users and groups (each sorted) read in addition to those that mode admits. It
// also returns the mode that stat then shows: its group bits are the ACL's mask, the maximum for the named entries
// and the owning group. The owning group still has the permissions of mode.
func readersACL(mode fs.FileMode, users, groups []int) ([]byte, fs.FileMode, error) {
	group := uint16(mode >> 3 & 7)
	mask := group | aclRead
	acl := newACL()
	acl = appendEntry(acl, aclUserObj, uint16(mode>>6&7), aclNoID)
	for _, id := range users {
		acl = appendEntry(acl, aclUser, aclRead, uint32(id))
	}
	acl = appendEntry(acl, aclGroupObj, group, aclNoID)
	for _, id := range groups {
		acl = appendEntry(acl, aclGroup, aclRead, uint32(id))
	}
	acl = appendEntry(acl, aclMask, mask, aclNoID)
	acl = appendEntry(acl, aclOther, uint16(mode&7), aclNoID)
	return acl, mode&^0o070 | fs.FileMode(mask)<<3, nil
}

// modeACL builds the ACL that is equivalent to mode; the kernel stores it as the mode alone.
func modeACL(mode fs.FileMode) []byte {
	acl := appendEntry(newACL(), aclUserObj, uint16(mode>>6&7), aclNoID)
	acl = appendEntry(acl, aclGroupObj, uint16(mode>>3&7), aclNoID)
	return appendEntry(acl, aclOther, uint16(mode&7), aclNoID)
}

func newACL() []byte { return binary.LittleEndian.AppendUint32(nil, aclVersion) }

func appendEntry(acl []byte, tag, perm uint16, id uint32) []byte {
	acl = binary.LittleEndian.AppendUint16(acl, tag)
	acl = binary.LittleEndian.AppendUint16(acl, perm)
	return binary.LittleEndian.AppendUint32(acl, id)
}

// clearACL removes the ACL that a new file inherited from its directory, and verifies that.
func clearACL(file *os.File) error {
	if hasACL(file, nil) {
		return nil
	}
	err := unix.Fsetxattr(int(file.Fd()), aclAttribute, modeACL(defaultMode), 0)
	if err == nil && !hasACL(file, nil) {
		err = errors.New("it is still there")
	}
	if err != nil {
		return fmt.Errorf("removing the ACL that its directory gave it: %w; remove the directory's default ACL: setfacl -k", err)
	}
	return nil
}

// setACL gives the file the readers, or removes an ACL that it should not have: a new file inherits one from a
// directory with a default ACL.
func (a attributes) setACL(file *os.File) error {
	acl := a.acl
	if acl == nil {
		if hasACL(file, nil) {
			return nil
		}
		acl = modeACL(a.mode)
	}
	err := unix.Fsetxattr(int(file.Fd()), aclAttribute, acl, 0)
	if errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("setting its readers: %w; the file system has no POSIX ACLs: mount it with them, or use group and mode", err)
	}
	if err != nil {
		return fmt.Errorf("setting its readers: %w", err)
	}
	return nil
}

// hasACL reports whether the file has exactly this ACL beyond its mode.
func hasACL(file *os.File, want []byte) bool {
	got := make([]byte, len(want)+1) // one more, to detect a longer one
	n, err := unix.Fgetxattr(int(file.Fd()), aclAttribute, got)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return want == nil
	}
	return err == nil && want != nil && bytes.Equal(got[:n], want)
}
