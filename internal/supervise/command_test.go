package supervise

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestEnvironment(t *testing.T) {
	for name, tc := range map[string]struct {
		inherited, without, given, want string
		mine                            bool
	}{
		"all of it":     {"A=1 B= C", "", "", "A=1 B= C", false},
		"tokens":        {"A=1 B=2", "", "T=x U=y", "A=1 B=2 T=x U=y", false},
		"in place":      {"A=1 T=old B=2", "", "T=x", "A=1 B=2 T=x", false},
		"no secrets":    {"A=1 SECRET=s SECRET_2=t", "SECRET", "", "A=1 SECRET_2=t", false},
		"sockets":       {"LISTEN_PID=42 LISTEN_FDS=2 LISTEN_FDNAMES=a:b LISTEN_PIDFDID=9", "", "", "LISTEN_PID=42 LISTEN_FDS=2 LISTEN_FDNAMES=a:b", true},
		"a watchdog":    {"WATCHDOG_PID=42 WATCHDOG_USEC=5 NOTIFY_SOCKET=/n", "", "", "WATCHDOG_PID=42 WATCHDOG_USEC=5 NOTIFY_SOCKET=/n", true},
		"for another":   {"LISTEN_PID=421 LISTEN_FDS=1 LISTEN_PIDFDID=9", "", "", "LISTEN_PID=421 LISTEN_FDS=1 LISTEN_PIDFDID=9", false},
		"for everybody": {"WATCHDOG_USEC=5", "", "", "WATCHDOG_USEC=5", false},
	} {
		t.Run(name, func(t *testing.T) {
			inherited := strings.Fields(tc.inherited)
			before := slices.Clone(inherited)
			got, mine := environment(inherited, strings.Fields(tc.without), strings.Fields(tc.given), 42)
			if strings.Join(got, " ") != tc.want || mine != tc.mine || !slices.Equal(inherited, before) {
				t.Errorf("got %q, %v; want %q, %v", got, mine, tc.want, tc.mine)
			}
		})
	}
}

func TestCommandIsStartedByItselfWhereItsNumberIsNeeded(t *testing.T) {
	o := Options{Command: []string{"app", "--serve"}, Environ: []string{"A=1"}}
	c, err := command("/usr/bin/app", o, nil)
	if err != nil || c.Path != "/usr/bin/app" || !slices.Equal(c.Args, []string{"app", "--serve"}) {
		t.Errorf("%+v, %v", c, err)
	}
	o.Environ = append(o.Environ, "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	c, err = command("/usr/bin/app", o, nil)
	if err != nil || c.Path == "/usr/bin/app" || !slices.Equal(c.Args, []string{"credagent", Launcher, "", "/usr/bin/app", "app", "--serve"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestInherit(t *testing.T) {
	before := []string{"A=7", "LISTEN_PID=7", "WATCHDOG_PID=8", "LISTEN_FDS=7", "MY_LISTEN_PID=7"}
	got := inherit(before, 7, 1234)
	if want := []string{"A=7", "LISTEN_PID=1234", "WATCHDOG_PID=8", "LISTEN_FDS=7", "MY_LISTEN_PID=7"}; !slices.Equal(got, want) || before[1] != "LISTEN_PID=7" {
		t.Errorf("got %q, want %q", got, want)
	}
}
