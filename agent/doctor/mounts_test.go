package doctor

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const mountinfo = `21 26 0:20 / /proc rw,nosuid shared:5 - proc proc rw
26 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 26 0:25 / /run rw,nosuid shared:10 - tmpfs tmpfs rw,size=100k
31 30 0:25 /credagent/graph.token /srv/app/token ro shared:10 - tmpfs tmpfs rw
32 26 253:0 /var/lib\040x /mnt/a\040b\134c rw - ext4 /dev/vda rw
33 26 0:30 /@/home /home rw - btrfs /dev/vdb rw
garbage
`

func TestReadMounts(t *testing.T) {
	want := []mount{
		{"0:20", "/", "/proc"}, {"253:0", "/", "/"}, {"0:25", "/", "/run"},
		{"0:25", "/credagent/graph.token", "/srv/app/token"}, {"253:0", "/var/lib x", `/mnt/a b\c`}, {"0:30", "/@/home", "/home"},
	}
	if got := readMounts(strings.NewReader(mountinfo)); !reflect.DeepEqual(got, want) {
		t.Errorf("read\n%+v, want\n%+v", got, want)
	}
}

func TestSource(t *testing.T) {
	mounts := readMounts(strings.NewReader(mountinfo))
	for path, want := range map[string][2]string{
		"/run/credagent/graph.token": {"0:25", "/credagent/graph.token"},
		"/runaway/x":                 {"253:0", "/runaway/x"},
		"/srv/app/token":             {"0:25", "/credagent/graph.token"},
		`/mnt/a b\c/x`:               {"253:0", "/var/lib x/x"},
		"/home/app/token":            {"0:30", "/@/home/app/token"},
	} {
		if device, file, ok := source(mounts, path); !ok || device != want[0] || file != want[1] {
			t.Errorf("%s is %s of %s, want %q", path, file, device, want)
		}
	}
	if _, _, ok := source(nil, "/x"); ok {
		t.Error("a path is somewhere where nothing is mounted")
	}
}

// TestMountsOfOthers plays a host with a container that has the file mounted alone.
func TestMountsOfOthers(t *testing.T) {
	const sink = "/run/credagent/graph.token"
	for name, tc := range map[string]struct {
		self, other string
		want        []want
	}{
		"none":              {"30 26 0:25 / /run rw - tmpfs tmpfs rw\n", "30 26 0:9 / / rw - overlay overlay rw\n", nil},
		"the directory":     {"30 26 0:25 / /run rw - tmpfs tmpfs rw\n", "31 30 0:25 /credagent /tokens ro - tmpfs tmpfs rw\n", nil},
		"the file":          {"30 26 0:25 / /run rw - tmpfs tmpfs rw\n", "31 30 0:25 /credagent/graph.token /token ro - tmpfs tmpfs rw\n", []want{{Problem, `process 77 (app) sees it through a bind mount of the single file, at "/token"`, "goes on showing the token", `mount the directory "/run/credagent"`}}},
		"the file, old":     {"30 26 0:25 / /run rw - tmpfs tmpfs rw\n", "31 30 0:25 /credagent/graph.token//deleted /token ro - tmpfs tmpfs rw\n", []want{{Problem, "process 77 (app)", "", ""}}},
		"another device":    {"30 26 0:25 / /run rw - tmpfs tmpfs rw\n", "31 30 0:99 /credagent/graph.token /token ro - tmpfs tmpfs rw\n", nil},
		"here, elsewhere":   {"30 26 0:25 / /run rw - tmpfs tmpfs rw\n31 30 0:25 /credagent/graph.token /srv/token rw - tmpfs tmpfs rw\n", "", []want{{Problem, `this host sees it through a bind mount of the single file, at "/srv/token"`, "", ""}}},
		"here, at the path": {"30 26 0:25 / /run rw - tmpfs tmpfs rw\n31 30 8:1 /x " + sink + " rw - ext4 /dev/sda rw\n", "", []want{{Problem, "is a bind mount of a single file", "device or resource busy", "mount its directory"}}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newExam(configOf(sinkAt(sink)))
			e.proc = t.TempDir()
			for pid, content := range map[string]string{"self": tc.self, "77": tc.other, "78": tc.other, "99": tc.self} {
				write(t, filepath.Join(e.proc, pid, "mountinfo"), content, 0o600)
				write(t, filepath.Join(e.proc, pid, "comm"), "app\n", 0o600)
				must(t, os.MkdirAll(filepath.Join(e.proc, pid, "ns"), 0o700))
				namespace := map[string]string{"self": "mnt:[1]", "77": "mnt:[2]", "78": "mnt:[2]", "99": "mnt:[1]"}[pid]
				must(t, os.Symlink(namespace, filepath.Join(e.proc, pid, "ns", "mnt")))
			}
			check(t, e.mounts(t.Context()), tc.want...)
		})
	}
}

// FuzzMounts reads any bytes as a mountinfo file.
func FuzzMounts(f *testing.F) {
	f.Add(mountinfo, "/run/credagent/graph.token")
	f.Fuzz(func(t *testing.T, content, path string) {
		mounts := readMounts(strings.NewReader(content))
		if device, file, ok := source(mounts, path); ok {
			alone(mounts, device, file)
		}
		if escaped := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(path); unescape(escaped) != path {
			t.Errorf("%q is read as %q", escaped, unescape(escaped))
		}
	})
}
