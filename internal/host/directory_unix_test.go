//go:build unix

package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const (
	agentUID = 1000
	ownerUID = 2000
	other    = 3000
)

func dir(path string, uid int, mode fs.FileMode) step {
	return step{path: path, uid: uid, mode: mode | fs.ModeDir}
}

// TestJudge is the rule: who may own the components of a path, and who may write to them.
func TestJudge(t *testing.T) {
	const sticky = 0o777 | fs.ModeSticky
	root := dir("/", 0, 0o755)
	volume := step{path: "/volume", uid: 0, mode: 0o777 | fs.ModeDir, mount: true}
	for name, tc := range map[string]struct {
		owner int
		way   []step
		want  string // what the error names; "" for a sound path
	}{
		"root's":                          {NoOwner, []step{root, dir("/run", 0, 0o755)}, ""},
		"the agent's":                     {NoOwner, []step{root, dir("/run", 0, 0o755), dir("/run/credagent", agentUID, 0o700)}, ""},
		"the owner's":                     {ownerUID, []step{root, dir("/home", 0, 0o755), dir("/home/app", ownerUID, 0o700)}, ""},
		"the owner's, who is not asked":   {NoOwner, []step{root, dir("/home/app", ownerUID, 0o700)}, "/home/app"},
		"a sticky one of root's":          {NoOwner, []step{root, dir("/tmp", 0, sticky)}, ""},
		"below a sticky one":              {NoOwner, []step{root, dir("/tmp", 0, sticky), dir("/tmp/x", agentUID, 0o755)}, ""},
		"another's below a sticky one":    {NoOwner, []step{root, dir("/tmp", 0, sticky), dir("/tmp/x", other, 0o755)}, "/tmp/x"},
		"another's sticky one":            {NoOwner, []step{root, dir("/spool", other, sticky)}, "/spool"},
		"another's above":                 {NoOwner, []step{root, dir("/srv", other, 0o755), dir("/srv/x", agentUID, 0o755)}, "/srv"},
		"another's with setgid":           {NoOwner, []step{root, dir("/srv", other, 0o755|fs.ModeSetgid)}, "/srv"},
		"everybody's above":               {NoOwner, []step{root, dir("/srv", 0, 0o777), dir("/srv/x", agentUID, 0o755)}, "/srv"},
		"a group's above":                 {NoOwner, []step{root, dir("/srv", 0, 0o775), dir("/srv/x", agentUID, 0o755)}, "/srv"},
		"everybody's":                     {NoOwner, []step{root, dir("/srv", 0, 0o777)}, "/srv"},
		"a group's":                       {NoOwner, []step{root, dir("/srv", 0, 0o770)}, "/srv"},
		"everybody's root":                {NoOwner, []step{dir("/", 0, 0o777), dir("/srv", 0, 0o755)}, "/"},
		"in a volume":                     {NoOwner, []step{root, volume, dir("/volume/x", agentUID, 0o755)}, ""},
		"a volume itself":                 {NoOwner, []step{root, volume}, "/volume"},
		"two below a volume":              {NoOwner, []step{root, volume, dir("/volume/x", agentUID, 0o755), dir("/volume/x/y", agentUID, 0o755)}, "/volume"},
		"another's in a volume":           {NoOwner, []step{root, volume, dir("/volume/x", other, 0o755)}, "/volume/x"},
		"the owner's in a volume":         {ownerUID, []step{root, volume, dir("/volume/x", ownerUID, 0o755)}, "/volume"},
		"everybody's in a volume":         {NoOwner, []step{root, volume, dir("/volume/x", agentUID, 0o777)}, "/volume/x"},
		"a mount of the agent's":          {NoOwner, []step{root, {"/volume", agentUID, 0o777 | fs.ModeDir, true}, dir("/volume/x", agentUID, 0o755)}, "/volume"},
		"a mount that only a group knows": {NoOwner, []step{root, {"/volume", 0, 0o770 | fs.ModeDir, true}, dir("/volume/x", agentUID, 0o755)}, "/volume"},
	} {
		t.Run(name, func(t *testing.T) {
			err := judged(judge{agentUID, tc.owner}, tc.way)
			if (err == nil) != (tc.want == "") {
				t.Fatalf("judged: %v, want it to name %q", err, tc.want)
			}
			if err != nil && (!strings.Contains(err.Error(), `directory "`+tc.want+`"`) || !strings.Contains(err.Error(), "run: ch")) {
				t.Errorf("the error does not name %q and the fix: %v", tc.want, err)
			}
		})
	}
}

func judged(j judge, way []step) error {
	for _, s := range way {
		if err := j.ownership(s); err != nil {
			return err
		}
	}
	return j.chain(way)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("giving files away needs root")
	}
}

// TestOpenDirectory walks real paths.
func TestOpenDirectory(t *testing.T) {
	for name, tc := range map[string]struct {
		path    string
		arrange func(t *testing.T, base string)
		want    string
	}{
		"itself":    {"", nil, ""},
		"with dots": {"a/../a/./b", func(t *testing.T, base string) { must(t, os.MkdirAll(base+"/a/b", 0o755)) }, ""},
		"by a link": {"link/b", func(t *testing.T, base string) {
			must(t, os.MkdirAll(base+"/a/b", 0o755))
			must(t, os.Symlink("a", base+"/link"))
		}, ""},
		"by an absolute link": {"link", func(t *testing.T, base string) { must(t, os.Symlink(base, base+"/link")) }, ""},
		"by a link upwards": {"a/link", func(t *testing.T, base string) {
			must(t, os.MkdirAll(base+"/a", 0o755))
			must(t, os.MkdirAll(base+"/b", 0o755))
			must(t, os.Symlink("../b", base+"/a/link"))
		}, ""},
		"a loop":  {"loop", func(t *testing.T, base string) { must(t, os.Symlink("loop", base+"/loop")) }, "too many levels"},
		"a file":  {"file", func(t *testing.T, base string) { must(t, os.WriteFile(base+"/file", nil, 0o600)) }, "not a directory"},
		"a pipe":  {"pipe", func(t *testing.T, base string) { must(t, syscall.Mkfifo(base+"/pipe", 0o600)) }, "not a directory"},
		"no such": {"none", nil, "no such file"},
		"open above": {"a/b", func(t *testing.T, base string) {
			must(t, os.MkdirAll(base+"/a/b", 0o755))
			must(t, os.Chmod(base+"/a", 0o777))
		}, "chmod go-w"},
		"a link in an open one": {"a/link", func(t *testing.T, base string) {
			must(t, os.MkdirAll(base+"/a", 0o755))
			must(t, os.MkdirAll(base+"/b", 0o755))
			must(t, os.Symlink("../b", base+"/a/link"))
			must(t, os.Chmod(base+"/a", 0o777))
		}, "chmod go-w"},
		"another's": {"a/b", func(t *testing.T, base string) {
			needsRoot(t)
			must(t, os.MkdirAll(base+"/a/b", 0o755))
			must(t, os.Chown(base+"/a", 65533, 0))
		}, "belongs to uid 65533"},
		"another's link": {"link", func(t *testing.T, base string) {
			needsRoot(t)
			must(t, os.MkdirAll(base+"/a", 0o755))
			must(t, os.Symlink("a", base+"/link"))
			must(t, os.Lchown(base+"/link", 65533, 0))
		}, "link"},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			if tc.arrange != nil {
				tc.arrange(t, base)
			}
			root, err := Directory{Path: base + "/" + tc.path, Owner: NoOwner}.Open()
			if err == nil {
				must(t, root.Close())
			}
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Open() = %v, want %q", err, tc.want)
			}
		})
	}
}

// TestWhoseLinksAreFollowed: the file's owner may have directories on the way, and may not lead the agent
// to others by a link.
func TestWhoseLinksAreFollowed(t *testing.T) {
	needsRoot(t)
	const owner = 65532
	for name, tc := range map[string]struct {
		path    string
		links   map[string]string // path below the base to target
		linksOf int
		want    string // what the error names; "" for one that is followed
	}{
		"the owner's directory":                {"home/own", nil, owner, ""},
		"root's link in it":                    {"home/link", map[string]string{"home/link": "../etc"}, 0, ""},
		"the owner's link in it":               {"home/link", map[string]string{"home/link": "../etc"}, owner, "home/link"},
		"an absolute one":                      {"home/link", map[string]string{"home/link": "/"}, owner, "home/link"},
		"one to the owner's own directory":     {"home/link", map[string]string{"home/link": "own"}, owner, "home/link"},
		"one above the last":                   {"home/link/own", map[string]string{"home/link": "../home"}, owner, "home/link"},
		"one behind root's":                    {"link", map[string]string{"home/link": "../etc"}, owner, "home/link"},
		"the owner's link where root alone is": {"etc/link", map[string]string{"etc/link": "../home"}, owner, "etc/link"},
		"another's":                            {"home/link", map[string]string{"home/link": "own"}, 65531, "home/link"},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			for _, made := range []string{"home", "home/own", "etc"} {
				must(t, os.Mkdir(filepath.Join(base, made), 0o755))
			}
			must(t, os.Chown(filepath.Join(base, "home"), owner, owner))
			must(t, os.Chown(filepath.Join(base, "home/own"), owner, owner))
			must(t, os.Symlink("home/link", filepath.Join(base, "link")))
			for link, target := range tc.links {
				must(t, os.Symlink(target, filepath.Join(base, link)))
				must(t, os.Lchown(filepath.Join(base, link), tc.linksOf, tc.linksOf))
			}
			root, err := Directory{Path: filepath.Join(base, tc.path), Owner: owner}.Open()
			if err == nil {
				must(t, root.Close())
			}
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), strconv.Quote(filepath.Join(base, tc.want))) {
				t.Errorf("Open() = %v, want it to name %q", err, tc.want)
			}
			if _, err := (File{Path: filepath.Join(base, tc.path, "pid"), Owner: owner, Links: true}).Open(); (tc.want == "") != errors.Is(err, fs.ErrNotExist) {
				t.Errorf("File.Open() = %v, want it to name %q", err, tc.want)
			}
		})
	}
}

// TestLinkInPlaceOfDirectory: the owner swaps a directory for a link to root's, again and again; what is
// opened is never root's.
func TestLinkInPlaceOfDirectory(t *testing.T) {
	needsRoot(t)
	const owner = 65532
	base := t.TempDir()
	must(t, os.Mkdir(filepath.Join(base, "etc"), 0o755))
	home, spare, link := filepath.Join(base, "own"), filepath.Join(base, "spare"), filepath.Join(base, "link")
	must(t, os.Mkdir(home, 0o755))
	must(t, os.Chown(home, owner, owner))
	must(t, os.Symlink("etc", link))
	must(t, os.Lchown(link, owner, owner))
	forbidden, err := os.Stat(filepath.Join(base, "etc"))
	must(t, err)
	stop, swapped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				swapped <- nil
				return
			default:
			}
			if err := errors.Join(os.Rename(home, spare), os.Rename(link, home), os.Rename(home, link), os.Rename(spare, home)); err != nil {
				swapped <- err
				return
			}
		}
	}()
	opened := 0
	for opened < 200 {
		root, err := Directory{Path: home, Owner: owner}.Open()
		if err != nil {
			continue
		}
		opened++
		info, err := root.Stat(".")
		must(t, errors.Join(err, root.Close()))
		if os.SameFile(info, forbidden) {
			t.Error("it is root's directory")
			break
		}
	}
	close(stop)
	must(t, <-swapped)
}

// TestMakeDirectory: it is made with its mode whatever the umask, and nowhere else.
func TestMakeDirectory(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	base := t.TempDir()
	root, err := Directory{Path: filepath.Join(base, "new"), Owner: NoOwner, Make: 0o755}.Open()
	must(t, err)
	defer root.Close()
	info, err := root.Stat(".")
	must(t, err)
	if info.Mode().Perm() != 0o755 {
		t.Errorf("its mode is %s", info.Mode())
	}
	must(t, os.Symlink("nowhere", filepath.Join(base, "dangling")))
	for _, path := range []string{"no/new", "dangling"} {
		if _, err := (Directory{Path: filepath.Join(base, path), Owner: NoOwner, Make: 0o755}).Open(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("making %q: %v", path, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(base, "nowhere")); err == nil {
		t.Error("it was made where a link leads")
	}
}

// TestOpenFile opens files that somebody reads on another's word: keys, and the numbers of processes.
func TestOpenFile(t *testing.T) {
	for name, tc := range map[string]struct {
		links   bool
		arrange func(t *testing.T, path string)
		want    string
	}{
		"a file": {false, func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o600)) }, ""},
		"a link, where there may be": {true, func(t *testing.T, path string) {
			must(t, os.WriteFile(path+".real", nil, 0o600))
			must(t, os.Symlink("file.real", path))
		}, ""},
		"a link, where there may not": {false, func(t *testing.T, path string) {
			must(t, os.WriteFile(path+".real", nil, 0o600))
			must(t, os.Symlink("file.real", path))
		}, "symbolic link"},
		"a loop":                         {true, func(t *testing.T, path string) { must(t, os.Symlink("file", path)) }, "too many levels"},
		"a pipe, which is not waited on": {true, func(t *testing.T, path string) { must(t, syscall.Mkfifo(path, 0o600)) }, "not a regular file"},
		"a device":                       {true, func(t *testing.T, path string) { must(t, os.Symlink("/dev/null", path)) }, "not a regular file"},
		"a directory":                    {true, func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, "not a regular file"},
		"nothing":                        {true, func(*testing.T, string) {}, "no such file"},
		"in an open directory": {true, func(t *testing.T, path string) {
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.Chmod(filepath.Dir(path), 0o777))
		}, "chmod go-w"},
		"by a link into an open directory": {true, func(t *testing.T, path string) {
			open := filepath.Join(filepath.Dir(path), "open")
			must(t, os.Mkdir(open, 0o755))
			must(t, os.WriteFile(open+"/real", nil, 0o600))
			must(t, os.Chmod(open, 0o777))
			must(t, os.Symlink("open/real", path))
		}, "chmod go-w"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			tc.arrange(t, path)
			file, err := File{Path: path, Owner: NoOwner, Links: tc.links}.Open()
			if err == nil {
				must(t, file.Close())
			}
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Open() = %v, want %q", err, tc.want)
			}
		})
	}
}
