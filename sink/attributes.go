package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"

	"github.com/credagent/credagent/internal/host"
)

const unset = -1

// attributes are the properties of a sink's file other than its content.
type attributes struct {
	mode  fs.FileMode // as configured
	shown fs.FileMode // as stat shows it: with an ACL, the group bits are the ACL's mask
	uid   int         // unset leaves it to defaultOwner
	gid   int         // unset leaves it to defaultOwner
	acl   []byte      // the POSIX ACL beyond the mode, as the kernel shows it; nil for none

	// defaultOwner is the owner if none is configured: this process's user and group, or what the file system maps
	// them to, as NFS and vfat do.
	defaultOwner *atomic.Pointer[ownership]
}

type ownership struct{ uid, gid int }

// owner returns the configured user, who may own the directory.
func (a attributes) owner() int {
	if a.uid == unset {
		return host.NoOwner
	}
	return a.uid
}

// wanted returns the owner that the file should have.
func (a attributes) wanted() ownership {
	is := *a.defaultOwner.Load()
	if a.uid != unset {
		is.uid = a.uid
	}
	if a.gid != unset {
		is.gid = a.gid
	}
	return is
}

func resolve(o Options) (attributes, error) {
	a := attributes{mode: o.Mode, uid: unset, gid: unset, defaultOwner: new(atomic.Pointer[ownership])}
	a.defaultOwner.Store(&ownership{os.Geteuid(), os.Getegid()})
	if a.mode == 0 {
		a.mode = defaultMode
	}
	if a.mode&^fs.ModePerm != 0 {
		return a, fmt.Errorf("mode %s has more than permission bits; use one like \"0640\"", a.mode)
	}
	var err error
	if o.Owner != "" {
		if a.uid, err = host.User(o.Owner); err != nil {
			return a, fmt.Errorf("looking up owner %q: %w", o.Owner, err)
		}
	}
	if o.Group != "" {
		if a.gid, err = host.Group(o.Group); err != nil {
			return a, fmt.Errorf("looking up group %q: %w", o.Group, err)
		}
	}
	return a, a.addReaders(o.Readers)
}

func (a *attributes) addReaders(readers []Principal) error {
	a.shown = a.mode
	if len(readers) == 0 {
		return checkOwnership(*a)
	}
	var users, groups []int
	for _, r := range readers {
		var err error
		switch {
		case (r.User == "") == (r.Group == ""):
			err = errors.New("a reader names either a user or a group")
		case r.User != "":
			users, err = lookUpInto(users, r.User, host.User)
		default:
			groups, err = lookUpInto(groups, r.Group, host.Group)
		}
		if err != nil {
			return err
		}
	}
	var err error
	a.acl, a.shown, err = readersACL(a.mode, users, groups)
	if err != nil {
		return err
	}
	return checkOwnership(*a)
}

// lookUpInto keeps ids sorted and unique.
func lookUpInto(ids []int, name string, lookUp func(string) (int, error)) ([]int, error) {
	id, err := lookUp(name)
	if err != nil {
		return nil, fmt.Errorf("looking up reader %q: %w", name, err)
	}
	i, found := slices.BinarySearch(ids, id)
	if found {
		return ids, nil
	}
	return slices.Insert(ids, i, id), nil
}
