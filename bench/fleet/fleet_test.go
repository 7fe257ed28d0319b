package fleet

import (
	"flag"
	"math"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
)

var update = flag.Bool("update", false, "draw the picture in docs anew")

const picture = "../../docs/images/fleet.svg"

// TestFleet plays ten thousand agents through an hour of outage, and compares the picture in the
// documents with what they do.
func TestFleet(t *testing.T) {
	var results []Result
	for _, m := range Models() {
		r := Run(m, Courses()[0], 1)
		steady := r.Mean(2*time.Hour, Begins)
		t.Logf("%s: %.1f/s on the mean, at most %.0f/s in the outage, %.0f/s after it (%.1f times the mean); %d requests in all",
			r.Name, steady, r.Peak(Begins, Ends), r.Peak(Ends, Length), r.Peak(Ends, Length)/steady, r.Requests)
		results = append(results, r)
	}
	ours, doubling, loop := results[0], results[1], results[2]
	// All agents retry within the longest wait, so this many a second is the least there can be.
	least := Agents / policy.MaxRetry.Seconds()
	if peak := ours.Peak(Ends, Length); peak > 1.5*least {
		t.Errorf("%.0f requests a second after the outage, want at most half more than %.0f", peak, least)
	}
	if peak := ours.Peak(Begins, Ends); peak > doubling.Peak(Begins, Ends)/2 || peak > loop.Peak(Begins, Ends)/5 {
		t.Errorf("%.0f requests a second in the outage, too near to the others", peak)
	}
	drawn := Plot(results)
	if *update {
		if err := os.WriteFile(picture, []byte(drawn), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if runtime.GOARCH != "amd64" {
		return // others round otherwise
	}
	if committed, err := os.ReadFile(picture); err != nil || string(committed) != drawn {
		t.Errorf("%s is not what the simulation draws (%v): run go -C bench test ./fleet -update", picture, err)
	}
}

// TestRecovery is the server's side of the end of an outage: whether there is a second in which agents come
// together. Were each to come at a moment of its own, requests in a second would be spread as Poisson has it, and
// five times the root of the mean above it would not be seen in an hour.
func TestRecovery(t *testing.T) {
	for _, course := range Courses() {
		for i, m := range Models() {
			r := Run(m, course, 1)
			mean, most := r.Recovery()
			alone := mean + 5*math.Sqrt(mean)
			t.Logf("in the outage %s; %s: recovered %v after its end, %.1f/s on the mean, at most %d in a second (%.1f times the mean; %.0f if all were alone)",
				course.Name, m.Name, (r.Recovered - Ends).Round(time.Second), mean, most, float64(most)/mean, alone)
			if i == 0 && float64(most) > alone {
				t.Errorf("%d requests in a second of the recovery, on the mean %.1f: agents move together", most, mean)
			}
		}
	}
}
