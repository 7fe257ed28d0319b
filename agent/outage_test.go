package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/provider"
)

// logged is a fixture whose log is read.
func logged(s *server, tokens ...string) (*fixture, *bytes.Buffer) {
	var out bytes.Buffer
	f := newFixture(s.exchange, tokens...)
	f.log = slog.New(slog.NewTextHandler(&out, nil))
	f.make(f.agent.parts.config(), s.exchange)
	return f, &out
}

func TestLongOutageIsAPageOfLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		f, out := logged(&server{answer: func(n int, a arrival) (provider.Reply, error) {
			if down.Load() {
				return refusal(http.StatusServiceUnavailable, "", ""), nil
			}
			return good(n, a)
		}}, "a", "b", "c")
		stop := f.run(t.Context())
		pass(3 * 24 * time.Hour)
		down.Store(false)
		pass(10 * time.Minute)
		stop()
		if lines := strings.Count(out.String(), "\n"); lines > 60 {
			t.Errorf("%d lines for three days", lines)
		}
		if !strings.Contains(out.String(), "token requests succeed again") || !strings.Contains(out.String(), "failures=") {
			t.Error("the end of the outage is not told")
		}
	})
}

func TestAnotherFailureIsLoggedHoweverManyThereWere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, out := logged(&server{answer: func(n int, _ arrival) (provider.Reply, error) {
			if n < 12 {
				return refusal(http.StatusServiceUnavailable, "", ""), nil
			}
			return refusal(http.StatusGatewayTimeout, "", ""), nil
		}}, "a")
		stop := f.run(t.Context())
		pass(2 * time.Hour)
		stop()
		if !strings.Contains(out.String(), "status=504") {
			t.Error("a failure of another kind is not in the log")
		}
	})
}

func TestWrongClockIsToldApartFromAWrongKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, out := logged(&server{answer: func(int, arrival) (provider.Reply, error) {
			reply := refusal(http.StatusUnauthorized, "invalid_client", "")
			reply.Header.Set("Date", time.Now().Add(7*time.Minute).UTC().Format(http.TimeFormat))
			return reply, nil
		}}, "a")
		stop := f.run(t.Context())
		pass(10 * time.Minute)
		s := f.agent.Status()
		stop()
		if n := strings.Count(out.String(), "clock differs from the server's"); n != 1 {
			t.Errorf("the clock is mentioned %d times", n)
		}
		if advice := s.Tokens[0].Advice; !strings.HasPrefix(advice, "set the clock: this host's is ") {
			t.Errorf("advice %q", advice)
		}
		if skew := s.Clients[0].ClockSkew; skew < 419 || skew > 420 {
			t.Errorf("skew %v", skew)
		}
	})
}

func TestRefreshIsNoMomentOfNotBeingReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const writeTimeout = 2 * time.Second // as package delivery has it
		var slow atomic.Int64
		f := newFixture((&server{answer: good}).exchange, "a")
		f.sinks["a"].fail = func() error {
			pass(time.Duration(slow.Load()))
			return nil
		}
		defer f.run(t.Context())()
		pass(time.Second)
		slow.Store(int64(writeTimeout / 2))
		for range 10 * 3600 {
			pass(time.Second / 10)
			if s := f.agent.Status(); !s.Ready {
				t.Fatalf("not ready: %v", s.NotReady)
			}
		}
		slow.Store(int64(10 * writeTimeout))
		for range 3600 {
			pass(time.Second)
			if !f.agent.Status().Ready {
				pass(time.Minute) // until it is written
				return
			}
		}
		t.Error("ready all the while a sink was being written for long")
	})
}

// What is logged of the next request is when it is sent, whoever of the token and the client's gate
// waits longer.
func TestRetryInIsWhenTheNextRequestIsSent(t *testing.T) {
	for name, reply := range map[string]provider.Reply{
		"an outage":                         refusal(http.StatusServiceUnavailable, "", ""),
		"an outage with a longer wait":      refusal(http.StatusServiceUnavailable, "", "600"),
		"throttled":                         refusal(http.StatusTooManyRequests, "slow_down", "67"),
		"throttled for less than a backoff": refusal(http.StatusTooManyRequests, "slow_down", "1"),
		"a refused credential":              refusal(http.StatusUnauthorized, "invalid_client", ""),
		"a wrong scope":                     refusal(http.StatusBadRequest, "invalid_scope", ""),
	} {
		for _, rolls := range [][2]float64{{0, 0}, {1, 0}, {0, 1}} { // of the token and of the client
			t.Run(fmt.Sprintf("%s %v", name, rolls), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &server{answer: func(n int, a arrival) (provider.Reply, error) {
						if n > 3 {
							return good(n, a)
						}
						return reply, nil
					}}
					f := newFixture(nil, "a")
					var out bytes.Buffer
					f.log = slog.New(slog.NewTextHandler(&out, nil))
					f.random = func(name string) func() float64 {
						return func() float64 {
							if name == "token a" {
								return rolls[0]
							}
							return rolls[1]
						}
					}
					cfg := *f.agent.parts.config()
					f.make(&cfg, s.exchange)
					stop := f.run(t.Context())
					pass(time.Hour + time.Minute)
					stop()
					said := regexp.MustCompile(`retry_in=(\S+)`).FindAllStringSubmatch(out.String(), -1)
					sent := s.requests()
					if len(said) == 0 || len(sent) <= len(said) {
						t.Fatalf("%d waits are logged of %d requests:\n%s", len(said), len(sent), out.String())
					}
					for i, match := range said {
						wait, err := time.ParseDuration(match[1])
						if err != nil {
							t.Fatal(err)
						}
						if got := sent[i+1].at.Sub(sent[i].at); (got - wait).Abs() > time.Second {
							t.Errorf("retry_in=%v, and the next request came after %v", wait, got)
						}
					}
				})
			})
		}
	}
}
