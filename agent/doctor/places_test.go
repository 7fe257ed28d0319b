package doctor

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/host"
)

func mode(mode fs.FileMode) func(dir string) error {
	return func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)) }
}

func TestDirectories(t *testing.T) {
	for name, tc := range map[string]struct {
		arrange func(dir string) error
		want    []want
	}{
		"fine":     {mode(0o755), nil},
		"private":  {mode(0o700), nil},
		"missing":  {func(string) error { return nil }, []want{{Problem, "is missing", "does not start", "install -d -m 0755 -o"}}},
		"a file":   {func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, []want{{Problem, "is not a directory", "does not start", "remove it"}}},
		"a link":   {func(dir string) error { return errors.Join(os.Mkdir(dir+"-real", 0o755), os.Symlink(dir+"-real", dir)) }, nil},
		"world":    {mode(0o757), []want{{Problem, "can be written to by others", "so the agent refuses it", "chmod go-w"}}},
		"group":    {mode(0o775), []want{{Problem, "(mode 0775)", "with their own token", "chmod go-w"}}},
		"sticky":   {mode(0o777 | fs.ModeSticky), []want{{Warning, "for everybody's files", "create a sink's name", "/run/credagent"}}},
		"in a dir": {func(dir string) error { return errors.Join(os.Mkdir(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o777)) }, []want{{Problem, "can be written to by others", "so the agent refuses it", "chmod go-w"}}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(openTemp(t), "run")
			must(t, tc.arrange(dir))
			check(t, place{path: filepath.Join(dir, "token"), owner: host.NoOwner}.checkDirectory(os.Geteuid()), tc.want...)
		})
	}
}

func TestMissingUnderRun(t *testing.T) {
	check(t, place{path: "/run/no-such-dir/x/token", owner: host.NoOwner}.checkDirectory(0), want{
		Problem, `directory "/run/no-such-dir/x" is missing`, "gone after the next boot",
		"RuntimeDirectory=no-such-dir/x in the agent's unit, or in tmpfiles.d: d /run/no-such-dir/x 0755 root - -",
	})
}

func TestDirectoryThatCannotBeLookedAt(t *testing.T) {
	file := write(t, filepath.Join(openTemp(t), "file"), "", 0o644)
	check(t, place{path: filepath.Join(file, "run", "token"), owner: host.NoOwner}.checkDirectory(0), want{Problem, "cannot be checked: not a directory", "does not start", "enter it"})
}

func TestWhatStandsAtThePath(t *testing.T) {
	listen := func(path string) error {
		listener, err := net.Listen("unix", path)
		if err == nil {
			listener.(*net.UnixListener).SetUnlinkOnClose(false)
			err = listener.Close()
		}
		return err
	}
	touch := func(path string) error { return os.WriteFile(path, nil, 0o600) }
	for name, tc := range map[string]struct {
		arrange func(path string) error
		socket  bool
		want    []want
	}{
		"nothing":             {func(string) error { return nil }, false, nil},
		"a file":              {touch, false, nil},
		"a link":              {func(path string) error { return os.Symlink("x", path) }, false, []want{{Problem, "is a symbolic link", "refuses", "points to"}}},
		"a directory":         {func(path string) error { return os.Mkdir(path, 0o700) }, false, []want{{Problem, "is a directory", "refuses", "a file in it"}}},
		"a socket":            {listen, false, []want{{Problem, "something else is at", "refuses", "remove it"}}},
		"a socket for one":    {listen, true, nil},
		"a file for a socket": {touch, true, []want{{Problem, "something else is at", "refuses", "remove it"}}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(openTemp(t), "x")
			must(t, tc.arrange(path))
			check(t, place{path: path, socket: tc.socket}.standing(), tc.want...)
		})
	}
}

func TestConfiguration(t *testing.T) {
	dir := openTemp(t)
	file := write(t, filepath.Join(dir, "credagent.yaml"), "", 0o664)
	e := newExam(config.Config{Source: file, Warnings: []config.Problem{{File: file, Path: "clients.x", Message: "no token uses this client"}}})
	unused := want{Warning, "clients.x: no token uses this client", "", ""}
	check(t, e.configuration(t.Context()), want{Problem, "others may write to the configuration (mode 0664)", "written where they can read", "chmod go-w"}, unused)
	must(t, os.Chmod(file, 0o644))
	must(t, os.Chmod(dir, 0o777))
	check(t, e.configuration(t.Context()), want{Warning, "which is above", "", "chmod go-w"}, unused)
	check(t, newExam(config.Config{Source: "environment"}).configuration(t.Context()))
}

func TestPlaces(t *testing.T) {
	cfg := config.Config{
		Sinks:    []config.Sink{sinkAt("/a/one"), sinkAt("/a/two")},
		Socket:   &config.Socket{Path: "/b/socket"},
		Identity: &config.IdentityEndpoint{HeaderFile: "/a/header"},
	}
	dirs := newExam(cfg).writtenDirs()
	if len(dirs) != 2 || dirs[0] != "/a" || dirs[1] != "/b" {
		t.Errorf("it is written to %q", dirs)
	}
}

// TestElsewhere: what is in memory is not advised to go there.
func TestElsewhere(t *testing.T) {
	for at, want := range map[fileSystem]string{
		{name: "tmpfs", memory: true}: "read it anew",
		{name: "ramfs", memory: true}: "read it anew",
		{name: "ext4", disk: true}:    "put it on a tmpfs, or read it anew",
		{name: "NFS", remote: true}:   "put it on a tmpfs, or read it anew",
		{}:                            "put it on a tmpfs, or read it anew",
	} {
		if got := elsewhere(at, "read it anew"); got != want {
			t.Errorf("on %q: %q, want %q", at.name, got, want)
		}
	}
	for _, at := range []fileSystem{{name: "tmpfs", memory: true}, {name: "ramfs", memory: true}} {
		if found := forSink(at); len(found) > 0 {
			t.Errorf("on %s: %+v", at.name, found)
		}
	}
}
