//go:build unix

package provider

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func digest(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func mustChmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestExternalProvider(t *testing.T) {
	t.Parallel()
	empty, dir, links := t.TempDir(), t.TempDir(), t.TempDir()
	mustChmod(t, links, 0o755) // whatever the umask
	mustChmod(t, empty, 0o777) // it holds none
	asProvider(t, dir, "ext")
	if err := os.Symlink(filepath.Join(dir, prefix+"ext"), filepath.Join(links, prefix+"linked")); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(o *Options) { o.Dirs = []string{filepath.Join(empty, "none"), empty, dir, links} })
	request, _ := tokenServer(t)
	for _, name := range []string{"ext", "linked"} {
		if reply := mustExchange(t, r.process(name, puppet{}), request); reply.Credential.Identity != "a puppet" {
			t.Errorf("%s: credential %+v", name, reply.Credential)
		}
	}
}

// spoilt is a way in which somebody else could have changed a provider, and what is said of it.
type spoilt struct {
	spoil func(t *testing.T, dir, path string)
	want  string
}

func TestLocateRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]spoilt{
		"trusted":             {func(*testing.T, string, string) {}, ""},
		"file others write":   {func(t *testing.T, _, path string) { mustChmod(t, path, 0o757) }, "run: chmod go-w "},
		"file a group writes": {func(t *testing.T, _, path string) { mustChmod(t, path, 0o775) }, "run: chmod go-w "},
		"directory":           {func(t *testing.T, dir, _ string) { mustChmod(t, dir, 0o777) }, "run: chmod go-w "},
		"sticky directory":    {func(t *testing.T, dir, _ string) { mustChmod(t, dir, 0o777|os.ModeSticky) }, "run: chmod go-w "},
		"directory above":     {func(t *testing.T, dir, _ string) { mustChmod(t, filepath.Dir(dir), 0o777) }, "run: chmod go-w "},
		"not executable":      {func(t *testing.T, _, path string) { mustChmod(t, path, 0o644) }, "it is not an executable file"},
		"a directory": {func(t *testing.T, _, path string) {
			_ = os.Remove(path)
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}, "it is not an executable file"},
		"another's file":      {func(t *testing.T, _, path string) { giveAway(t, path) }, "it belongs to uid 12345, neither root nor the agent's user"},
		"another's directory": {func(t *testing.T, dir, _ string) { giveAway(t, dir) }, "it belongs to uid 12345, neither root nor the agent's user"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			locateSpoilt(t, tc.spoil, tc.want)
		})
	}
}

func TestLocateRefusesLinks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]spoilt{
		"link to nothing": {func(t *testing.T, _, path string) {
			mustLink(t, "/none", path)
		}, "no credagent-provider-x in "},
		"link to others' file": {func(t *testing.T, _, path string) {
			open := executable(t, t.TempDir(), "open", script("exit"))
			mustChmod(t, open, 0o777)
			mustLink(t, open, path)
		}, "run: chmod go-w "},
		"link in others' directory on the way": {func(t *testing.T, _, path string) {
			others := t.TempDir()
			mustLink(t, "/bin/sh", filepath.Join(others, "on"))
			mustChmod(t, others, 0o777|os.ModeSticky)
			mustLink(t, filepath.Join(others, "on"), path)
		}, "run: chmod go-w "},
		"link to itself": {func(t *testing.T, _, path string) {
			mustLink(t, filepath.Base(path), path)
		}, "its links lead in a circle"},
		"trusted link in others' directory": {func(t *testing.T, dir, path string) {
			mustLink(t, "/bin/sh", path)
			mustChmod(t, dir, 0o777|os.ModeSticky)
		}, "run: chmod go-w "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			locateSpoilt(t, tc.spoil, tc.want)
		})
	}
}

// mustLink makes a link, in place of what is there.
func mustLink(t *testing.T, to, at string) {
	t.Helper()
	_ = os.Remove(at)
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

// locateSpoilt looks for a provider after something was done to it, and wants that it is refused, or found if want is empty.
func locateSpoilt(t *testing.T, spoil func(t *testing.T, dir, path string), want string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "plugins")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mustChmod(t, filepath.Dir(dir), 0o755) // whatever the umask
	path := executable(t, dir, "x", script("exit"))
	spoil(t, dir, path)
	r := newRig(t, func(o *Options) { o.Dirs = []string{dir} })
	if want == "" {
		if got, err := r.finder.locate("x"); err != nil || filepath.Base(got) != prefix+"x" {
			t.Errorf("located %q, %v", got, err)
		}
		return
	}
	_, _, err := r.process("x", puppet{}).Check(t.Context(), false)
	if message := mustFail(t, err, KindConfig); !strings.Contains(message, want) {
		t.Errorf("message %q", message)
	}
}

func giveAway(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("giving a file away needs root")
	}
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
}

func TestLocateUnknown(t *testing.T) {
	t.Parallel()
	f := finder{dirs: []string{"/none", "/nothing"}, builtin: []string{"a", "b"}}
	for name, want := range map[string]string{
		"vault":  `finding provider "vault": no credagent-provider-vault in /none, /nothing; known are a, b`,
		"":       `provider "": a name holds no path separator`,
		"../sh":  `provider "../sh": a name holds no path separator`,
		"a/b":    `provider "a/b": a name holds no path separator`,
		"/bin/x": `provider "/bin/x": a name holds no path separator`,
	} {
		if _, err := f.locate(name); err == nil || err.Error() != want {
			t.Errorf("locate(%q): %v", name, err)
		}
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	dir, second := t.TempDir(), t.TempDir()
	good := asProvider(t, dir, "good")
	executable(t, dir, "wrong", script("exec sleep 300"))
	executable(t, dir, "broken", script("exit 3"))
	asProvider(t, second, "good") // the first directory counts
	mustChmod(t, executable(t, second, "open", script("exit 3")), 0o777)
	executable(t, second, "", script("exit 3")) // no name, no provider
	if err := os.WriteFile(filepath.Join(second, "README"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(o *Options) {
		o.Builtin = []string{behaving}
		o.Dirs = []string{dir, second, "/none"}
		o.SHA256 = map[string]string{"good": strings.ToUpper(digest(t, good)), "wrong": strings.Repeat("0", 64)}
	})
	want := map[string]struct {
		builtin, pinned bool
		problem         string
	}{
		behaving: {builtin: true},
		"good":   {pinned: true},
		"wrong":  {pinned: true, problem: "but plugins.sha256 pins 0000"},
		"broken": {problem: "its process ended before it was ready"},
		"open":   {problem: "others may write to it"},
	}
	all := r.List(t.Context())
	if len(all) != len(want) || all[0].Name != behaving {
		t.Fatalf("list %+v", all)
	}
	for _, info := range all {
		w := want[info.Name]
		if info.Builtin != w.builtin || info.Pinned != w.pinned || !strings.Contains(info.Error, w.problem) {
			t.Errorf("%+v, want %+v", info, w)
		}
		if (w.problem == "") != (info.Error == "") || (w.problem == "") != (info.Version != "") || (info.Path == "" && w.problem == "") {
			t.Errorf("%+v, want %+v", info, w)
		}
	}
}

func TestPin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := asProvider(t, dir, "x")
	right := digest(t, path)
	ran := filepath.Join(t.TempDir(), "ran")
	t.Run("right", func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.Dirs, o.SHA256 = []string{dir}, map[string]string{"x": right} })
		mustCheck(t, r.process("x", puppet{}))
	})
	t.Run("wrong", func(t *testing.T) {
		other := t.TempDir()
		executable(t, other, "x", script("touch "+ran))
		r := newRig(t, func(o *Options) { o.Dirs, o.SHA256 = []string{other}, map[string]string{"x": right} })
		_, _, err := r.process("x", puppet{}).Check(t.Context(), true)
		if message := mustFail(t, err, KindConfig); !strings.Contains(message, "refusing provider") || !strings.Contains(message, "pins "+right) {
			t.Errorf("message %q", message)
		}
		if _, err := os.Stat(ran); !os.IsNotExist(err) {
			t.Error("what has the wrong digest ran")
		}
	})
	t.Run("script", func(t *testing.T) {
		other := t.TempDir()
		sum := digest(t, executable(t, other, "x", script("touch "+ran)))
		r := newRig(t, func(o *Options) { o.Dirs, o.SHA256 = []string{other}, map[string]string{"x": sum} })
		_, _, err := r.process("x", puppet{}).Check(t.Context(), true)
		if message := mustFail(t, err, KindConfig); !strings.Contains(message, "it is a script, and only a program can be pinned") {
			t.Errorf("message %q", message)
		}
	})
	t.Run("replaced while it runs", func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.Dirs, o.SHA256 = []string{dir}, map[string]string{"x": right} })
		p := r.process("x", puppet{})
		mustCheck(t, p)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		executable(t, dir, "x", script("touch "+ran))
		mustCheck(t, p)
		p.Close()
		_, _, err := p.Check(t.Context(), true)
		if message := mustFail(t, err, KindConfig); !strings.Contains(message, "refusing provider") {
			t.Errorf("message %q", message)
		}
	})
}
