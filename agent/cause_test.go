package agent

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
)

// many are the names of 39 tokens.
func many() []string {
	names := make([]string, 39)
	for i := range names {
		names[i] = fmt.Sprintf("t%02d", i)
	}
	return names
}

// TestOutageIsOneMatter: tokens that were not asked for themselves when they expired have the cause of
// those that were, in the status, in the log and for who asks for them.
func TestOutageIsOneMatter(t *testing.T) {
	for name, failed := range map[string]func() (provider.Reply, error){
		"connection refused": func() (provider.Reply, error) { return provider.Reply{}, errors.New("connection refused") },
		"HTTP 503":           func() (provider.Reply, error) { return refusal(http.StatusServiceUnavailable, "", ""), nil },
		"invalid_client":     func() (provider.Reply, error) { return refusal(http.StatusUnauthorized, "invalid_client", ""), nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var down atomic.Bool
				f, out := logged(&server{answer: func(int, arrival) (provider.Reply, error) {
					if down.Load() {
						return failed()
					}
					return granted(fmt.Sprint("token-", time.Now().UnixNano()), 10*time.Minute), nil
				}}, many()...)
				stop := f.run(t.Context())
				pass(3 * time.Minute)
				down.Store(true)
				pass(8 * time.Minute)
				stop()
				triage := f.agent.Status().Triage()
				if len(triage.Matters) != 1 || len(triage.Matters[0].Names) != 39 || triage.Matters[0].Level != status.Act || !strings.Contains(triage.Matters[0].Cause, name) {
					t.Errorf("matters %+v", triage.Matters)
				}
				for _, shown := range triage.Tokens {
					if _, err := f.agent.Token(shown.Name); err == nil || !strings.Contains(err.Error(), "it expired at 2000-01-01T00:1") || !strings.Contains(err.Error(), name) {
						t.Errorf("token %q: %v", shown.Name, err)
					}
				}
				checkExpiries(t, out.String(), name)
			})
		})
	}
}

func checkExpiries(t *testing.T, log, cause string) {
	t.Helper()
	for _, name := range many() {
		n := 0
		for line := range strings.Lines(log) {
			if strings.Contains(line, "token expired, nothing to replace it yet") && strings.Contains(line, "token="+name+" ") {
				n++
				if !strings.Contains(line, cause) || !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "client=client") {
					t.Errorf("log line %q", line)
				}
				if at, expiry := attr(line, "time"), attr(line, "expiry"); at[:19] != expiry[:19] {
					t.Errorf("it is told at %s that a token expired at %s", at, expiry)
				}
			}
		}
		if n != 1 {
			t.Errorf("the end of token %s is told %d times", name, n)
		}
	}
}

// attr is the value of an attribute of a log line.
func attr(line, key string) string {
	_, value, _ := strings.Cut(" "+line, " "+key+"=")
	return strings.Fields(value)[0]
}

// TestEndOfOneTokenIsTold: also of a token that has no answer, and not of one that is replaced or that
// its server hands out until its end.
func TestEndOfOneTokenIsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(n int, a arrival) (provider.Reply, error)
		want   int
	}{
		"replaced": {good, 0},
		"handed out until its end": {func(int, arrival) (provider.Reply, error) {
			end := time.Now().Truncate(10 * time.Minute).Add(10 * time.Minute)
			return granted(fmt.Sprint("until-", end.Unix()), time.Until(end)), nil
		}, 0},
		"refused for itself": {func(n int, _ arrival) (provider.Reply, error) {
			if n > 1 {
				return refusal(http.StatusBadRequest, "invalid_scope", ""), nil
			}
			return granted("first", 10*time.Minute), nil
		}, 1},
		"throttled": {func(n int, _ arrival) (provider.Reply, error) {
			if n > 1 {
				reply := refusal(http.StatusTooManyRequests, "", "")
				reply.Header.Set("Retry-After", "7200")
				return reply, nil
			}
			return granted("first", 10*time.Minute), nil
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, out := logged(&server{answer: tc.answer}, "a")
				stop := f.run(t.Context())
				pass(time.Hour)
				stop()
				if n := strings.Count(out.String(), "token expired, nothing to replace it yet"); n != tc.want {
					t.Errorf("told %d times, want %d:\n%s", n, tc.want, out)
				}
			})
		})
	}
}

// TestClientsThatAreOneToTheServer: the one that is held up by the other's secret says so.
func TestClientsThatAreOneToTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, out := logged(&server{answer: good}, "a")
		f.sinks["b"] = &memory{path: "/b", tokens: []string{"b"}}
		f.provide = func(s provider.Spec) Provider {
			answer := (&server{answer: good}).exchange
			if s.Client == "client" {
				answer = (&server{answer: func(int, arrival) (provider.Reply, error) {
					return refusal(http.StatusUnauthorized, "invalid_client", ""), nil
				}}).exchange
			}
			return &scripted{answer: answer}
		}
		cfg := f.changed(func(c *config.Config) {
			two := c.Clients[0]
			two.Name = "two"
			c.Clients = append(c.Clients, two)
			c.Tokens = append(c.Tokens, config.Token{Name: "b", Client: "two", RefreshAt: 0.5})
			c.Sinks = append(c.Sinks, config.Sink{Type: config.SinkFile, Path: "/b", Token: "b"})
		})
		f.make(cfg, nil)
		stop := f.run(t.Context())
		pass(5 * time.Second)
		stop()
		const told = `msg="held up by another client, which is the same client to the server" client=two failed_client=client class=credential error="invalid_client`
		if n := strings.Count(out.String(), told); n != 1 {
			t.Errorf("it is logged %d times:\n%s", n, out)
		}
		for _, m := range f.agent.Status().Triage().Matters {
			if m.Client == "two" && (m.What != "held up by another client" || !strings.Contains(m.Cause, `client "client"`) || !strings.Contains(m.Cause, "invalid_client")) {
				t.Errorf("matter %+v", m)
			}
		}
		if _, err := f.agent.Token("b"); err == nil || !strings.Contains(err.Error(), `client "client", which is the same client to the server: invalid_client`) {
			t.Errorf("who asks for the token is told %v", err)
		}
	})
}

// TestKeptWaitIsTold: a wait that this process was not asked for itself is in its log once, and in the
// status as the cause.
func TestKeptWaitIsTold(t *testing.T) {
	for name, arrange := range map[string]func(t *testing.T, f *fixture){
		"of the host": func(_ *testing.T, f *fixture) {
			f.waits = &sharedWaits{until: map[string]time.Time{"https://login.example.com/token id": time.Now().Add(time.Hour)}}
		},
		"of the state": func(t *testing.T, f *fixture) {
			f.memory = newMemory()
			before := &server{answer: func(int, arrival) (provider.Reply, error) {
				reply := refusal(http.StatusTooManyRequests, "", "")
				reply.Header.Set("Retry-After", "3600")
				return reply, nil
			}}
			f.make(f.agent.parts.config(), before.exchange)
			stop := f.run(t.Context())
			pass(time.Second)
			stop()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, out := logged(&server{answer: good}, "a", "b")
				arrange(t, f)
				out.Reset()
				f.make(f.agent.parts.config(), (&server{answer: good}).exchange)
				stop := f.run(t.Context())
				pass(10 * time.Minute)
				s := f.agent.Status()
				stop()
				if n := strings.Count(out.String(), "waiting: the server asked an earlier process or another command for it"); n != 1 || !strings.Contains(out.String(), "client=client until=2000-01-01T01:") {
					t.Errorf("it is told %d times:\n%s", n, out)
				}
				for _, m := range s.Triage().Matters {
					if len(m.Names) == 2 && strings.Contains(m.Cause, "earlier process") {
						return
					}
				}
				t.Errorf("matters %+v", s.Triage().Matters)
			})
		})
	}
}
