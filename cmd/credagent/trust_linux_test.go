package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/testkit/peertest"
)

func TestOnlyATrustedListenerIsBelieved(t *testing.T) {
	for name, tc := range map[string]struct {
		listen  string
		trusted []int
		refused bool
	}{
		"one's own":         {"127.0.0.1:0", []int{0, os.Geteuid()}, false},
		"at every address":  {":0", []int{os.Geteuid()}, false},
		"somebody else's":   {"127.0.0.1:0", []int{61001}, true},
		"nobody is trusted": {"127.0.0.1:0", nil, true},
		"of an outsider":    {":0", []int{61001, 61002}, true},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", tc.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			_, port, err := net.SplitHostPort(listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn, err := dialTrusted(t.Context(), "127.0.0.1:"+port, tc.trusted)
			if conn != nil {
				defer conn.Close()
			}
			var untrusted *untrustedError
			if errors.As(err, &untrusted) != tc.refused || !tc.refused && err != nil || tc.refused && untrusted.uid != os.Geteuid() {
				t.Errorf("%v", err)
			}
		})
	}
}

// The user that the configuration's own places belong to is taken for the agent's; of several, none is.
func TestAgentsUserIsKnownByItsPlaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving directories away needs root")
	}
	dir := t.TempDir()
	place := func(name string, uid int, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, mode), os.Chown(path, uid, -1)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, other, open := place("one", 61001, 0o755), place("other", 61002, 0o700), place("open", 61003, 0o777)
	roots := place("root", 0, 0o755)
	sinks := func(dirs ...string) (all []config.Sink) {
		for _, d := range dirs {
			all = append(all, config.Sink{Path: filepath.Join(d, "token")})
		}
		return all
	}
	for name, tc := range map[string]struct {
		cfg  config.Config
		want []int
	}{
		"a sink's":                  {config.Config{Source: fromEnvironment, Sinks: sinks(one)}, []int{61001}},
		"two sinks of one":          {config.Config{Source: fromEnvironment, Sinks: sinks(one, one)}, []int{61001}},
		"sinks of two":              {config.Config{Source: fromEnvironment, Sinks: sinks(one, other)}, nil},
		"a sink of root and others": {config.Config{Source: fromEnvironment, Sinks: sinks(roots, one)}, nil},
		"a sink given away":         {config.Config{Source: fromEnvironment, Sinks: []config.Sink{{Path: filepath.Join(one, "token"), Owner: "app"}}}, nil},
		"where all may write":       {config.Config{Source: fromEnvironment, Sinks: sinks(open)}, nil},
		"the state's":               {config.Config{Source: fromEnvironment, State: &config.State{Dir: other}}, []int{61002}},
		"the configuration's":       {config.Config{Source: filepath.Join(one, "c.yaml")}, []int{61001}},
		"nothing there":             {config.Config{Source: fromEnvironment, Sinks: sinks(filepath.Join(dir, "none"))}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := madeFor(&tc.cfg); !slices.Equal(got, tc.want) {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestUntrustedListenerSaysWhatToDo(t *testing.T) {
	said := (&untrustedError{61001, portHint}).Error()
	want := "hint: ask as the agent's user or as root"
	if os.Geteuid() == 0 {
		want = "runuser -u 61001 -- credagent status"
	}
	if !strings.Contains(said, want) {
		t.Errorf("%s\nlacks %s", said, want)
	}
}

func TestOnlyATrustedSocketIsBelieved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for name, tc := range map[string]struct {
		trusted []int
		refused bool
	}{
		"one's own":         {[]int{61001, os.Geteuid()}, false},
		"somebody else's":   {[]int{61001, 61002}, true},
		"nobody is trusted": {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := dialSocket(t.Context(), path, tc.trusted)
			if conn != nil {
				defer conn.Close()
			}
			var untrusted *untrustedError
			if errors.As(err, &untrusted) != tc.refused || !tc.refused && err != nil || tc.refused && untrusted.uid != os.Geteuid() {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestAFalseAgentIsNotAsked: a user who has taken the path of the agent's socket is asked nothing.
func TestAFalseAgentIsNotAsked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("being another user needs root")
	}
	dir := filepath.Join(peertest.Dir(t), "sticky")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777|fs.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	cmd := peertest.Command(t, peertest.Identity{UID: 61001, GID: 61001}, falseAgentArgument, path)
	said, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if _, err := said.Read(make([]byte, 1)); err != nil { // it listens
		t.Fatal(err)
	}
	at := agentAt{socket: path}
	for name, ask := range map[string]func() error{
		"status":    func() error { _, err := askStatus(t.Context(), at); return err },
		"token":     func() error { _, err := askToken(t.Context(), agentFlags{socket: &path}, "t"); return err },
		"refresh":   func() error { return refresh(t.Context(), io.Discard, at, "t") },
		"challenge": func() error { return challenge(t.Context(), io.Discard, at, "t", "Bearer") },
	} {
		if err := ask(); !errors.Is(err, errNoAgent) || !strings.Contains(err.Error(), "user 61001 is listening there") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// falseAgentArgument makes the test binary an agent at a socket that is not one, until it is killed.
const falseAgentArgument = "false-agent"

func falseAgent(path string) {
	listener, err := net.Listen("unix", path)
	if err != nil || os.Chmod(path, 0o777) != nil {
		os.Exit(1)
	}
	fmt.Print("l")
	_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:gosec // it is killed
		_, _ = io.WriteString(w, `{"access_token":"false","expiry":"2100-01-01T00:00:00Z","ready":true,"outcome":"success"}`)
	}))
}

// TestWhoCanHavePlacedASocket: the owner of a directory is the agent's user only where nobody else could
// have made it.
func TestWhoCanHavePlacedASocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files away needs root")
	}
	const agent, other, nobody = 61001, 61002, -1
	base, err := os.MkdirTemp("/run", "credagent-trust-")
	if err != nil {
		t.Skipf("a directory is needed that is root's up to /: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	if _, ok := placedBy(base); !ok {
		t.Skip("/run is not root's alone")
	}
	type dir struct {
		name string
		uid  int
		mode fs.FileMode
	}
	for name, tc := range map[string]struct {
		dirs []dir
		link string // what "link" leads to, made by linkOf
		of   int
		at   string
		want int
	}{
		"the agent's":           {[]dir{{"a", agent, 0o755}}, "", 0, "a", agent},
		"root's":                {[]dir{{"a", 0, 0o755}}, "", 0, "a", 0},
		"below the agent's":     {[]dir{{"a", agent, 0o755}, {"a/b", agent, 0o700}}, "", 0, "a/b", agent},
		"root's in the agent's": {[]dir{{"a", agent, 0o755}, {"a/b", 0, 0o755}}, "", 0, "a/b", nobody},
		"in another's":          {[]dir{{"a", other, 0o755}, {"a/b", agent, 0o755}}, "", 0, "a/b", nobody},
		"a sticky one":          {[]dir{{"a", 0, 0o777 | fs.ModeSticky}}, "", 0, "a", nobody},
		"in a sticky one":       {[]dir{{"a", 0, 0o777 | fs.ModeSticky}, {"a/b", agent, 0o755}}, "", 0, "a/b", nobody},
		"a group's":             {[]dir{{"a", agent, 0o775}}, "", 0, "a", nobody},
		"open, and no volume":   {[]dir{{"a", 0, 0o777}, {"a/b", agent, 0o755}}, "", 0, "a/b", nobody},
		"by root's link":        {[]dir{{"a", agent, 0o755}}, "a", 0, "link", agent},
		"by root's link above":  {[]dir{{"a", agent, 0o755}, {"a/b", agent, 0o755}}, "a", 0, "link/b", agent},
		"by another's link":     {[]dir{{"a", agent, 0o755}}, "a", other, "link", nobody},
		"by root's to a sticky": {[]dir{{"a", 0, 0o777 | fs.ModeSticky}, {"a/b", agent, 0o755}}, "a/b", 0, "link", nobody},
		"nowhere":               {nil, "", 0, "a", nobody},
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(base, strings.ReplaceAll(name, " ", "-"))
			made := os.Mkdir(root, 0o755)
			for _, d := range tc.dirs {
				at := filepath.Join(root, d.name)
				made = errors.Join(made, os.Mkdir(at, 0o700), os.Chmod(at, d.mode), os.Chown(at, d.uid, d.uid))
			}
			if tc.link != "" {
				made = errors.Join(made, os.Symlink(tc.link, filepath.Join(root, "link")), os.Lchown(filepath.Join(root, "link"), tc.of, tc.of))
			}
			if made != nil {
				t.Fatal(made)
			}
			uid, ok := placedBy(filepath.Join(root, tc.at, "s"))
			if ok != (tc.want != nobody) || ok && uid != tc.want {
				t.Errorf("%d, %v, want %d", uid, ok, tc.want)
			}
		})
	}
}
