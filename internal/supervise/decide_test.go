package supervise

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The plans of these tests. The signals and times are all different.
var (
	leave   = Plan{KillSignal: syscall.SIGINT, RestartTime: time.Second}
	restart = Plan{Restart: true, KillSignal: syscall.SIGINT, RestartTime: time.Second, StopTime: time.Minute}
	tell    = Plan{ReloadSignal: syscall.SIGHUP, KillSignal: syscall.SIGINT, RestartTime: time.Second}
)

// play hands events to a machine and writes down what it decides:
//
//	offer ENVIRON GENERATION, NAME (a signal), NAME! (one that reached the command too), exit STATUS
func play(plan Plan, events string) string {
	m := machine{plan: plan}
	var decided []string
	for _, event := range strings.Split(events, ", ") {
		decided = append(decided, inWords(happen(&m, strings.Fields(event))))
	}
	return strings.Join(decided, ", ")
}

func happen(m *machine, words []string) verdict {
	switch words[0] {
	case "offer":
		return m.offered(digestOf(Offer{Environ: words[1:2], Generation: words[2]}))
	case "exit":
		return m.ended(len(words[1]))
	case "gone":
		m.endedBefore()
		return verdict{}
	}
	name, reached := strings.CutSuffix(words[0], "!")
	return m.received(map[string]os.Signal{
		"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "QUIT": syscall.SIGQUIT, "ALRM": syscall.SIGALRM,
	}[name], reached)
}

func inWords(v verdict) string {
	var words []string
	if v.start {
		words = append(words, "start")
	}
	if v.send != nil {
		words = append(words, v.send.String())
	}
	if v.within > 0 {
		words = append(words, "within "+v.within.String())
	}
	if v.finish {
		words = append(words, "finish", strings.Repeat("i", v.status%100)) // 3 is iii, 143 too
	}
	if words == nil {
		return "-"
	}
	return strings.Join(words, " ")
}

// scene is what happens to a machine, and what it decides each time.
type scene struct {
	plan         Plan
	events, want string
}

func TestPassingOn(t *testing.T) {
	decide(t, map[string]scene{
		"from start to end": {leave, "offer A 1, exit iii", "start, finish iii"},
		"by default nothing happens to it": {
			leave, "offer A 1, offer A 2, offer B 3", "start, -, -",
		},
		"signals are passed on": {
			leave, "offer A 1, HUP, ALRM, INT, QUIT, TERM", "start, hangup, alarm clock, interrupt, quit, terminated",
		},
		"but for those that it got already": {
			leave, "offer A 1, INT!, QUIT!", "start, -, -",
		},

		"ended before the start":       {leave, "TERM", "finish " + strings.Repeat("i", 43)},
		"interrupted before the start": {leave, "INT", "finish " + strings.Repeat("i", 30)},
		"hung up before the start":     {leave, "HUP", "finish " + strings.Repeat("i", 29)},
		"others do nothing before it":  {leave, "ALRM, offer A 1", "-, start"},
	})
}

func TestRefreshes(t *testing.T) {
	decide(t, map[string]scene{
		"restarted with another environment": {
			restart, "offer A 1, offer A 2, offer B 2, exit i, offer B 3, offer C 3, exit ii, exit iii",
			"start, -, interrupt within 1s, start, -, interrupt within 1s, start, finish iii",
		},
		"what comes during a restart is in the new environment": {
			restart, "offer A 1, offer B 2, offer C 3, exit i, offer C 4", "start, interrupt within 1s, -, start, -",
		},
		"back to what it had during a restart": {
			restart, "offer A 1, offer B 2, offer A 3, exit i", "start, interrupt within 1s, -, start",
		},
		"told to end during a restart, it stays ended": {
			restart, "offer A 1, offer B 2, TERM, exit iii", "start, interrupt within 1s, terminated within 1m0s, finish iii",
		},
		"by the terminal too": {
			restart, "offer A 1, offer B 2, INT!, exit iii", "start, interrupt within 1s, -, finish iii",
		},
		"other signals do not keep it from being restarted": {
			restart, "offer A 1, offer B 2, ALRM, HUP, exit i", "start, interrupt within 1s, alarm clock, hangup, start",
		},
		"not restarted on its way out": {
			restart, "offer A 1, TERM, offer B 2, exit iii", "start, terminated within 1m0s, -, finish iii",
		},
		"its own end before the restart counts": {
			restart, "offer A 1, offer B 2, gone, exit iii", "start, interrupt within 1s, -, finish iii",
		},

		"told of what is new": {
			tell, "offer A 1, offer A 1, offer A 2, offer A 2, offer B 2", "start, -, hangup, -, hangup",
		},
		"not told on its way out": {
			tell, "offer A 1, TERM, offer A 2, exit iii", "start, terminated, -, finish iii",
		},
	})
}

func decide(t *testing.T, scenes map[string]scene) {
	t.Helper()
	for name, s := range scenes {
		t.Run(name, func(t *testing.T) {
			if got := play(s.plan, s.events); got != s.want {
				t.Errorf("%s:\n got %s\nwant %s", s.events, got, s.want)
			}
		})
	}
}

func TestDigestTellsOffersApart(t *testing.T) {
	offers := []Offer{
		{}, {Generation: "1"}, {Environ: []string{"A=1"}}, {Environ: []string{"A=1", "B=2"}}, {Environ: []string{"A=1B=2"}}, {Environ: []string{"A=2"}, Generation: "1"},
	}
	for i, a := range offers {
		for j, b := range offers {
			if (digestOf(a) == digestOf(b)) != (i == j) {
				t.Errorf("%v and %v", a, b)
			}
		}
	}
}
