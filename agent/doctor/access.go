package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/host"
)

// The permissions of a mode's three bits.
const (
	mayRead   = 4
	mayWrite  = 2
	maySearch = 1
)

// nobody is a uid that no file has. It stands for an arbitrary member of a group.
const nobody = -1

// person is a user that reads a file.
type person struct {
	name string
	uid  int
	gids []int
}

// owner is the owner of a file.
type owner struct{ uid, gid int }

// facts determine the access to a file.
type facts struct {
	owner
	mode fs.FileMode
	acl  []entry // empty if there is only the mode
}

// entry is an entry of a POSIX ACL (include/uapi/linux/posix_acl.h).
type entry struct {
	tag, perm uint16
	id        uint32
}

const (
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
)

// may applies the rules of acl(5), which include those of the mode.
func (p person) may(want uint16, f facts) bool {
	bits := uint16(f.mode.Perm())
	if p.uid == 0 {
		return true
	}
	if p.uid == f.uid {
		return bits>>6&want == want
	}
	if bits&0o070 == 0 {
		f.acl = nil // Linux checks an ACL only if its mask, the mode's group bits, permits something
	}
	mask := uint16(mayRead | mayWrite | maySearch)
	for _, e := range f.acl {
		if e.tag == aclMask {
			mask = e.perm
		}
	}
	for _, e := range f.acl {
		if e.tag == aclUser && int(e.id) == p.uid {
			return e.perm&mask&want == want
		}
	}
	member, granted := false, false
	for _, g := range f.groups() {
		if slices.Contains(p.gids, int(g.id)) {
			member, granted = true, granted || g.perm&mask&want == want
		}
	}
	if member {
		return granted
	}
	return bits&want == want
}

// groups returns the file's groups with their permissions. With an ACL the mode's group bits are its mask, and the
// owning group has an entry.
func (f facts) groups() []entry {
	owning := entry{aclGroupObj, uint16(f.mode.Perm()) >> 3 & 7, uint32(f.gid)}
	var all []entry
	for _, e := range f.acl {
		switch e.tag {
		case aclGroupObj:
			owning.perm = e.perm
		case aclGroup:
			all = append(all, e)
		}
	}
	return append(all, owning)
}

// readACL reads the kernel's form of an ACL; nil if it is none.
func readACL(raw []byte) []entry {
	const version, header, size = 2, 4, 8
	if len(raw) < header || binary.LittleEndian.Uint32(raw) != version || (len(raw)-header)%size != 0 {
		return nil
	}
	var all []entry
	for e := range slices.Chunk(raw[header:], size) {
		all = append(all, entry{
			binary.LittleEndian.Uint16(e), binary.LittleEndian.Uint16(e[2:]), binary.LittleEndian.Uint32(e[4:]),
		})
	}
	return all
}

// factsOf checks a file; ok is false if that is not possible.
func factsOf(path string) (facts, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return facts{}, false
	}
	is, ok := ownerIn(info)
	return facts{owner: is, mode: info.Mode(), acl: readACL(accessACL(path))}, ok
}

func ownerOf(path string) (owner, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return owner{}, false
	}
	return ownerIn(info)
}

// barred returns the first directory in a path that the person cannot enter.
func (p person) barred(dir string) (at string, mode fs.FileMode, barred bool) {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	for _, step := range ancestors(dir) {
		if f, known := factsOf(step); known && !p.may(maySearch, f) {
			return step, f.mode.Perm(), true
		}
	}
	return "", 0, false
}

// errNobody means that there is no such user or group.
var errNobody = errors.New("is not known on this host")

// personOf looks up a principal; for a group, it returns an arbitrary member.
func personOf(p config.Principal) (person, error) {
	if p.Group != "" {
		gid, err := groupID(p.Group)
		return person{name: "a member of group " + quote(p.Group), uid: nobody, gids: []int{gid}}, err
	}
	uid, err := host.User(p.User)
	who := person{name: "user " + quote(p.User), uid: uid}
	if err != nil {
		who.uid = nobody
		return who, fmt.Errorf("user %q %w", p.User, errNobody)
	}
	if name := host.UserName(uid); !strings.HasPrefix(name, "#") {
		who.gids, err = host.Groups(name)
	}
	return who, err
}

func groupID(name string) (int, error) {
	gid, err := host.Group(name)
	if err != nil {
		return nobody, fmt.Errorf("group %q %w", name, errNobody)
	}
	return gid, nil
}

func userName(uid int) string { return host.UserName(uid) }

func groupName(gid int) string { return host.GroupName(gid) }
