package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/credagent/credagent/agent/config"
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
		t.Skip("only root gives directories to others")
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
	said := (&untrustedError{61001}).Error()
	want := "hint: ask as the agent's user or as root"
	if os.Geteuid() == 0 {
		want = "runuser -u 61001 -- credagent status"
	}
	if !strings.Contains(said, want) {
		t.Errorf("%s\nlacks %s", said, want)
	}
}
