package doctor

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/agent/config"
)

// rawACL writes the kernel's form of an ACL.
func rawACL(entries ...entry) []byte {
	raw := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		raw = binary.LittleEndian.AppendUint16(raw, e.tag)
		raw = binary.LittleEndian.AppendUint16(raw, e.perm)
		raw = binary.LittleEndian.AppendUint32(raw, e.id)
	}
	return raw
}

// TestRulesAreTheKernels compares what is worked out with what the kernel does, for random modes and
// ACLs and random people.
func TestRulesAreTheKernels(t *testing.T) {
	needRoot(t)
	const none = 1<<32 - 1
	rng := rand.New(rand.NewPCG(1, 2))
	ids := []int{4001, 4002, 4003}
	dir := openTemp(t)
	inside := write(t, filepath.Join(dir, "in", "file"), "x", 0o666)
	in := filepath.Dir(inside)
	granted := 0
	for i := range 150 {
		must(t, os.Chown(in, ids[rng.IntN(3)], ids[rng.IntN(3)]))
		perm := func() uint16 { return uint16(rng.IntN(8)) }
		if i%3 == 0 {
			must(t, unix.Setxattr(in, "system.posix_acl_access", rawACL(entry{1, perm(), none}, entry{aclGroupObj, perm(), none}, entry{0x20, perm(), none}), 0))
		} else {
			must(t, unix.Setxattr(in, "system.posix_acl_access", rawACL(
				entry{1, perm(), none}, entry{aclUser, perm(), 4002}, entry{aclGroupObj, perm(), none},
				entry{aclGroup, perm(), 4001}, entry{aclGroup, perm(), 4003}, entry{aclMask, perm(), none}, entry{0x20, perm(), none}), 0))
		}
		who := person{uid: ids[rng.IntN(3)], gids: []int{ids[rng.IntN(3)], ids[rng.IntN(3)]}}
		is, ok := factsOf(in)
		if !ok {
			t.Fatal("the directory cannot be checked")
		}
		got, want := who.may(maySearch, is), runAs(who, "test", "-e", inside)
		if got != want {
			t.Errorf("%+v enters %+v: %t, but the kernel says %t", who, is, got, want)
		}
		if want {
			granted++
		}
	}
	if granted < 20 || granted > 130 {
		t.Errorf("%d of 150 were let in: too one-sided to prove anything", granted)
	}
}

func runAs(who person, name string, args ...string) bool {
	cmd := exec.Command(name, args...)
	credential := &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gids[0])}
	for _, gid := range who.gids[1:] {
		credential.Groups = append(credential.Groups, uint32(gid))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	return cmd.Run() == nil
}

func TestReadACLOfNonsense(t *testing.T) {
	whole := rawACL(entry{aclUser, 4, 7})
	if got := readACL(whole); !slices.Equal(got, []entry{{aclUser, 4, 7}}) {
		t.Errorf("read %v", got)
	}
	for name, raw := range map[string][]byte{"nothing": nil, "short": whole[:3], "cut": whole[:len(whole)-1], "newer": append([]byte{3, 0, 0, 0}, whole[4:]...)} {
		if got := readACL(raw); got != nil {
			t.Errorf("%s: read %v", name, got)
		}
	}
}

func TestPersonOf(t *testing.T) {
	for name, tc := range map[string]struct {
		principal config.Principal
		uid       int
		gid       int
		err       string
	}{
		"root":           {config.Principal{User: "root"}, 0, 0, ""},
		"a number":       {config.Principal{User: "65532"}, 65532, nobody, ""},
		"a group":        {config.Principal{Group: "root"}, nobody, 0, ""},
		"a group number": {config.Principal{Group: "65532"}, nobody, 65532, ""},
		"no such user":   {config.Principal{User: "no-such-user"}, nobody, nobody, `user "no-such-user" is not known on this host`},
		"no such group":  {config.Principal{Group: "no-such-group"}, nobody, nobody, `group "no-such-group" is not known on this host`},
	} {
		t.Run(name, func(t *testing.T) {
			who, err := personOf(tc.principal)
			if fmt.Sprint(err) != tc.err && !(err == nil && tc.err == "") {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if who.uid != tc.uid || tc.gid != nobody && !slices.Contains(who.gids, tc.gid) {
				t.Errorf("it is %+v", who)
			}
		})
	}
}

// shut is a sink in a directory that only its owner, root, can enter.
func shut(t *testing.T) config.Sink {
	t.Helper()
	dir := filepath.Join(openTemp(t), "run")
	must(t, os.Mkdir(dir, 0o700))
	return sinkAt(filepath.Join(dir, "token"))
}

func TestDeclaredConsumers(t *testing.T) {
	needRoot(t)
	for name, tc := range map[string]struct {
		change func(*config.Sink)
		open   fs.FileMode
		want   []want
	}{
		"nobody":                 {func(*config.Sink) {}, 0o755, []want{{Note, "only the agent's user can read it", "", "group and mode"}}},
		"everybody":              {func(s *config.Sink) { s.Mode = 0o644 }, 0o755, nil},
		"a reader":               {func(s *config.Sink) { s.Readers = []config.Principal{{User: "4001"}} }, 0o755, nil},
		"a reader, shut out":     {func(s *config.Sink) { s.Readers = []config.Principal{{User: "4001"}} }, 0o700, []want{{Problem, `user "4001" cannot enter directory`, "nobody can read its files", "chmod o+x"}}},
		"an owner, shut out":     {func(s *config.Sink) { s.Owner = "4001" }, 0o750, []want{{Problem, `user "4001" cannot enter`, "", ""}}},
		"root is never shut out": {func(s *config.Sink) { s.Owner = "root" }, 0o700, nil},
		"a group, shut out":      {func(s *config.Sink) { s.Group, s.Mode = "4001", 0o640 }, 0o754, []want{{Problem, `a member of group "4001" cannot enter`, "", ""}}},
		"the directory's group":  {func(s *config.Sink) { s.Group, s.Mode = "0", 0o640 }, 0o750, nil},
		"a group with nothing":   {func(s *config.Sink) { s.Group = "4001" }, 0o755, []want{{Problem, `mode 0600 gives group "4001" nothing`, "cannot read", `mode: "0640"`}}},
		"unknown":                {func(s *config.Sink) { s.Readers = []config.Principal{{Group: "no-such-group"}} }, 0o755, []want{{Problem, `"no-such-group" is not known`, "does not start", "check the name"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := shut(t)
			tc.change(&s)
			must(t, os.Chmod(filepath.Dir(s.Path), tc.open))
			check(t, newExam(configOf(s)).consumers(t.Context()), tc.want...)
		})
	}
}

// TestGroupsCount: a reader may enter by a group of theirs, also a supplementary one.
func TestGroupsCount(t *testing.T) {
	who := person{uid: 4001, gids: []int{4001, 4002}}
	for name, tc := range map[string]struct {
		is   facts
		want bool
	}{
		"the group may":          {facts{owner: owner{0, 4002}, mode: 0o710}, true},
		"the group may not":      {facts{owner: owner{0, 4002}, mode: 0o701}, false},
		"others may":             {facts{owner: owner{0, 4003}, mode: 0o701}, true},
		"the owner may not":      {facts{owner: owner{4001, 4002}, mode: 0o011}, false},
		"the mask takes it away": {facts{owner: owner{0, 0}, mode: 0o700, acl: []entry{{aclUser, 7, 4001}, {aclMask, 6, 0}}}, false},
	} {
		if got := who.may(maySearch, tc.is); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}
