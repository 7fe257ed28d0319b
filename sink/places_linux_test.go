package sink_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/testkit/peertest"
)

// volume mounts what the kubelet mounts as an emptyDir: root's, and open to everybody.
func volume(t *testing.T, mode fs.FileMode) string {
	t.Helper()
	needRoot(t)
	dir := filepath.Join(peertest.Dir(t), "volume")
	must(t, os.Mkdir(dir, 0o755))
	if err := unix.Mount("credagent-test", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("mounting needs a privilege that root lacks here: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	must(t, os.Chmod(dir, mode))
	return dir
}

func TestVolumeOfAPod(t *testing.T) {
	for name, mode := range map[string]fs.FileMode{"as it is": 0o777, "with a group of the pod's": 0o777 | fs.ModeSetgid} {
		t.Run(name, func(t *testing.T) {
			dir := volume(t, mode)
			path := filepath.Join(dir, "run", "token")
			f := newSink(t, sink.Options{Path: path, Mode: 0o644})
			write(t, f, "one", sink.Written)
			write(t, f, "two", sink.Written)
			wantHolds(t, f, "two", true)

			// Somebody puts a directory of theirs in its place.
			must(t, os.Rename(filepath.Dir(path), filepath.Join(dir, "away")))
			must(t, os.Mkdir(filepath.Dir(path), 0o755))
			must(t, os.Chown(filepath.Dir(path), 65533, 65533))
			_, err := f.Write(having(graph("three")))
			wantError(t, err, "belongs to uid 65533", "chown")
			wantEntries(t, filepath.Dir(path))
			_, err = sink.New(sink.Options{Path: filepath.Join(dir, "token"), Renderer: sink.Raw("graph")})
			wantError(t, err, "can be written to by others")
		})
	}
}

// TestDirectoriesOfOthers is who may own the directory of a sink, and those above.
func TestDirectoriesOfOthers(t *testing.T) {
	needRoot(t)
	const app, another = 65532, 65533
	for name, tc := range map[string]struct {
		above, dir int
		mode       fs.FileMode
		owner      string
		want       string
	}{
		"the reader's own":                  {0, app, 0o755, "65532", ""},
		"the reader's own, private":         {app, app, 0o700, "65532", ""},
		"the reader's own, with setgid":     {0, app, 0o750 | fs.ModeSetgid, "65532", ""},
		"another's":                         {0, another, 0o755, "65532", "belongs to uid 65533"},
		"another's, for the agent":          {0, another, 0o755, "", "belongs to uid 65533"},
		"another's, with setgid":            {0, another, 0o2755, "", "belongs to uid 65533"},
		"another's, sticky":                 {0, another, 0o777 | fs.ModeSticky, "", "belongs to uid 65533"},
		"below another's":                   {another, 0, 0o755, "", "belongs to uid 65533"},
		"the reader's below another's":      {another, app, 0o755, "65532", "belongs to uid 65533"},
		"the reader's, that everybody owns": {0, app, 0o777, "65532", "chmod go-w"},
	} {
		t.Run(name, func(t *testing.T) {
			above := filepath.Join(peertest.Dir(t), "above")
			dir := filepath.Join(above, "dir")
			must(t, os.MkdirAll(dir, 0o755))
			must(t, os.Chown(dir, tc.dir, tc.dir))
			must(t, os.Chmod(dir, tc.mode))
			must(t, os.Chown(above, tc.above, 0))
			f, err := sink.New(sink.Options{Path: filepath.Join(dir, "token"), Owner: tc.owner, Renderer: sink.Raw("graph")})
			if tc.want != "" {
				wantError(t, err, tc.want, "run: ch")
				wantEntries(t, dir)
				return
			}
			must(t, err)
			write(t, f, "one", sink.Written)
			wantHolds(t, f, "one", true)
		})
	}
}

// aclFor is a default ACL as setfacl -d -m u:65533:r makes it.
func aclFor(uid uint32) []byte {
	entry := func(acl []byte, tag, perm uint16, id uint32) []byte {
		return append(acl, byte(tag), 0, byte(perm), 0, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	acl := []byte{2, 0, 0, 0}
	acl = entry(acl, 0x01, 7, 1<<32-1)
	acl = entry(acl, 0x02, 4, uid)
	acl = entry(acl, 0x04, 5, 1<<32-1)
	acl = entry(acl, 0x10, 5, 1<<32-1)
	return entry(acl, 0x20, 5, 1<<32-1)
}

// TestDefaultACLGivesNobodyAnything: the named user of a directory's default ACL reads neither the
// new file nor, by opening it while it is empty, what is written later.
func TestDefaultACLGivesNobodyAnything(t *testing.T) {
	for name, o := range map[string]sink.Options{
		"mode alone":   {Mode: 0o640},
		"for everyone": {Mode: 0o644},
		"with readers": {Mode: 0o600, Readers: []sink.Principal{{User: "65532"}}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			must(t, os.Mkdir(dir, 0o755))
			if err := unix.Setxattr(dir, "system.posix_acl_default", aclFor(65533), 0); err != nil {
				t.Skipf("no POSIX ACLs here: %v", err)
			}
			o.Path = filepath.Join(dir, "token")
			f := newSink(t, o)
			write(t, f, "one", sink.Written)
			wantHolds(t, f, "one", true)
			acl := make([]byte, 1024)
			n, err := unix.Getxattr(o.Path, "system.posix_acl_access", acl)
			for e := 4; err == nil && e+8 <= n; e += 8 {
				if acl[e] == 0x02 && acl[e+4] == byte(65533&0xff) && acl[e+5] == byte(65533>>8) {
					t.Error("the user of the default ACL is still in it")
				}
			}
		})
	}
}
