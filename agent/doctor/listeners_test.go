package doctor

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/status"
)

func TestListeners(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	at := taken.Addr().String()
	for name, tc := range map[string]struct {
		listen, identity string
		want             []want
	}{
		"off":           {"", "", nil},
		"free":          {"127.0.0.1:0", "localhost:0", nil},
		"taken":         {at, "", []want{{Warning, "something else listens at " + at, "keeps tokens fresh, but serves no probes", "ss -ltnp"}}},
		"taken, too":    {"", at, []want{{Problem, "something else listens", "does not start", ""}}},
		"open to all":   {":0", "", []want{{Warning, ":0 can be reached from other hosts", "names, paths and times", "127.0.0.1"}}},
		"no such port":  {"127.0.0.1:70000", "", []want{{Problem, "cannot listen on 127.0.0.1:70000", "", ""}}},
		"not this host": {"192.0.2.1:1", "", []want{{Problem, "this host has no address", "", "ip address"}, {Warning, "can be reached", "", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.Config{Listen: tc.listen}
			if tc.identity != "" {
				cfg.Identity = &config.IdentityEndpoint{Listen: tc.identity}
			}
			check(t, newExam(cfg).listeners(t.Context()), tc.want...)
			if cfg.Identity != nil {
				cfg.Identity, cfg.Sidecar = nil, &config.AuthSidecar{Listen: tc.identity}
				check(t, newExam(cfg).listeners(t.Context()), tc.want...)
			}
		})
	}
	e := newExam(config.Config{Listen: at})
	e.running = &status.Status{}
	check(t, e.listeners(t.Context()))
}

func TestCallers(t *testing.T) {
	needRoot(t)
	dir := openTemp(t)
	for name, tc := range map[string]struct {
		socket config.Socket
		allow  config.Principal
		open   os.FileMode
		want   []want
	}{
		"a group":         {config.Socket{Mode: 0o660, Group: "4001"}, config.Principal{Group: "4001"}, 0o755, nil},
		"root":            {config.Socket{Mode: 0o600}, config.Principal{User: "0"}, 0o700, nil},
		"everybody":       {config.Socket{Mode: 0o666}, config.Principal{User: "4001"}, 0o755, nil},
		"another group":   {config.Socket{Mode: 0o660, Group: "4002"}, config.Principal{Group: "4001"}, 0o755, []want{{Problem, "may not connect to the socket (mode 0660, group #4002)", "before the agent is asked", "one group"}}},
		"no group":        {config.Socket{Mode: 0o660}, config.Principal{User: "4001"}, 0o755, []want{{Problem, `user "4001" may have it, but may not connect`, "", ""}}},
		"shut out":        {config.Socket{Mode: 0o660, Group: "4001"}, config.Principal{Group: "4001"}, 0o700, []want{{Problem, "cannot enter directory", "", "chmod o+x"}}},
		"nobody":          {config.Socket{Mode: 0o660}, config.Principal{User: "no-such-user"}, 0o755, []want{{Warning, "is not known", "admits nobody", "check the name"}}},
		"a group of none": {config.Socket{Mode: 0o660, Group: "no-such-group"}, config.Principal{User: "0"}, 0o755, []want{{Problem, "is not known", "does not start", "check the name"}}},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.Chmod(dir, tc.open))
			tc.socket.Path = filepath.Join(dir, "socket")
			cfg := config.Config{Socket: &tc.socket, Tokens: []config.Token{{Name: "graph", Allow: []config.Principal{tc.allow}}}}
			check(t, newExam(cfg).callers(t.Context()), tc.want...)
		})
	}
	check(t, newExam(config.Config{}).callers(t.Context()))
}
