package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/sink"
)

// server is a scripted server that remembers when it was asked for what.
type server struct {
	mu     sync.Mutex
	seen   []arrival
	answer func(n int, a arrival) (provider.Reply, error) // n counts from 1
}

type arrival struct {
	at     time.Time
	token  string // by its scope
	client string
}

func (s *server) exchange(_ context.Context, r provider.Request) (provider.Reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := arrival{at: time.Now(), token: strings.TrimPrefix(r.Form.Get("scope"), "scope-"), client: r.ClientID}
	s.seen = append(s.seen, a)
	return s.answer(len(s.seen), a)
}

func (s *server) requests() []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]arrival(nil), s.seen...)
}

func good(n int, _ arrival) (provider.Reply, error) {
	return granted(fmt.Sprintf("token-%d", n), time.Hour), nil
}

func TestRefreshesAtItsShareOfTheLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f := newFixture(s.exchange, "a")
		began := time.Now()
		stop := f.run(t.Context())
		defer stop()
		pass(time.Hour)
		got := s.requests()
		if len(got) < 2 {
			t.Fatalf("%d requests within an hour", len(got))
		}
		if after := got[1].at.Sub(began); after > 30*time.Minute || after < 27*time.Minute {
			t.Errorf("refreshed after %v, want 27m to 30m", after)
		}
		if held := f.sinks["a"].held("a"); held.AccessToken.Reveal() != fmt.Sprintf("token-%d", len(got)) {
			t.Error("the sink does not hold the newest token")
		}
	})
}

func TestLifeCountsFromWhenTheRequestWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		f := newFixture(func(context.Context, provider.Request) (provider.Reply, error) {
			pass(8 * time.Second) // the answer is slow
			return granted("slow", time.Minute), nil
		}, "a")
		stop := f.run(t.Context())
		defer stop()
		pass(9 * time.Second)
		if got := f.sinks["a"].held("a").Expiry.Sub(began); got != time.Minute {
			t.Errorf("expires %v after the request was sent, want 1m", got)
		}
	})
}

func TestRetryAfterHoldsEveryTokenOfTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, a arrival) (provider.Reply, error) {
			if n == 1 {
				return refusal(http.StatusTooManyRequests, "", "100"), nil
			}
			return good(n, a)
		}}
		f := newFixture(s.exchange, "a", "b", "c")
		began := time.Now()
		stop := f.run(t.Context())
		defer stop()
		pass(99 * time.Second)
		if got := s.requests(); len(got) != 1 {
			t.Fatalf("%d requests while the server wanted none", len(got))
		}
		pass(15 * time.Second)
		got := s.requests()
		if len(got) != 4 {
			t.Fatalf("%d requests in all, want 4", len(got))
		}
		if after := got[1].at.Sub(began); after < 100*time.Second || after > 110*time.Second {
			t.Errorf("the next request came after %v, want 100s to 110s", after)
		}
	})
}

// clientsFixture has two configured clients that are one to the server, and a third of its own.
func clientsFixture(s *server) *fixture {
	f := newFixture(s.exchange, "a", "b", "c")
	cfg := *f.agent.parts.config()
	cfg.Clients = append([]config.Client(nil), cfg.Clients...)
	twin, other := cfg.Clients[0], cfg.Clients[0]
	twin.Name, twin.RequestTimeout = "twin", 5*time.Second
	other.Name, other.ClientID = "other", "other-id"
	cfg.Clients = append(cfg.Clients, twin, other)
	cfg.Tokens = append([]config.Token(nil), cfg.Tokens...)
	cfg.Tokens[1].Client, cfg.Tokens[2].Client = "twin", "other"
	return remade(f, s, &cfg)
}

func TestClientsThatAreOneToTheServerShareTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, a arrival) (provider.Reply, error) {
			if a.client == "id" && n <= 2 {
				return refusal(http.StatusTooManyRequests, "", "60"), nil
			}
			return good(n, a)
		}}
		f := clientsFixture(s)
		stop := f.run(t.Context())
		defer stop()
		pass(59 * time.Second)
		counts := map[string]int{}
		for _, r := range s.requests() {
			counts[r.client]++
		}
		if counts["id"] != 1 || counts["other-id"] != 1 {
			t.Errorf("requests by client_id: %v; want one each", counts)
		}
	})
}

func TestOutageIsProbedByOneRequestAndTheOthersFollowPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		s := &server{answer: func(n int, a arrival) (provider.Reply, error) {
			if down.Load() {
				return refusal(http.StatusServiceUnavailable, "", ""), nil
			}
			return good(n, a)
		}}
		names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
		f := newFixture(s.exchange, names...)
		stop := f.run(t.Context())
		defer stop()
		pass(20 * time.Minute)
		if got := len(s.requests()); got > 12 {
			t.Errorf("%d requests in 20 minutes of outage, want one probe at a time", got)
		}
		down.Store(false)
		before := len(s.requests())
		pass(policy.MaxRetry + time.Minute)
		got := s.requests()[before:]
		if len(got) != len(names) {
			t.Fatalf("%d requests after the outage for %d tokens", len(got), len(names))
		}
		for i := policy.MaxInPace; i < len(got); i++ {
			if within := got[i].at.Sub(got[i-policy.MaxInPace].at); within < policy.PaceWindow {
				t.Errorf("%d requests within %v after the outage", policy.MaxInPace+1, within)
			}
		}
		if s := f.agent.Status(); !s.Ready {
			t.Errorf("not ready after the outage: %v", s.NotReady)
		}
	})
}

func TestATokenThatAlwaysFailsHoldsNobodyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, a arrival) (provider.Reply, error) {
			if a.token == "bad" {
				return refusal(http.StatusInternalServerError, "", ""), nil
			}
			return granted(fmt.Sprintf("token-%d", n), 2*time.Minute), nil
		}}
		f := newFixture(s.exchange, "bad", "good")
		stop := f.run(t.Context())
		defer stop()
		pass(2 * time.Hour)
		bad := 0
		for _, r := range s.requests() {
			if r.token == "bad" {
				bad++
			}
		}
		if bad > 40 {
			t.Errorf("%d requests for the bad token in two hours, want backoff", bad)
		}
		if held := f.sinks["good"].held("good"); !held.ValidAt(time.Now()) {
			t.Error("the good token was not kept")
		}
	})
}

func TestFailingSinkHoldsNothingElseBackAndIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f := newFixture(s.exchange, "a", "b")
		var full atomic.Bool
		full.Store(true)
		f.sinks["a"].fail = func() error {
			if full.Load() {
				return errNoSpace
			}
			return nil
		}
		stop := f.run(t.Context())
		defer stop()
		pass(10 * time.Second)
		if f.sinks["b"].held("b").AccessToken.IsZero() {
			t.Error("the other sink was held back")
		}
		st := f.agent.Status()
		if st.Ready || len(st.NotReady) != 1 || st.Sinks[0].LastError == "" {
			t.Errorf("status while a sink fails: ready %v, %v", st.Ready, st.NotReady)
		}
		full.Store(false)
		pass(time.Minute)
		if !f.agent.Status().Ready {
			t.Error("the sink was not retried")
		}
		if got := len(s.requests()); got != 2 {
			t.Errorf("%d token requests, want 2: a sink's failure asks for no token", got)
		}
	})
}

func TestSinkChangedBySomebodyElseIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture((&server{answer: good}).exchange, "a")
		stop := f.run(t.Context())
		defer stop()
		pass(time.Second)
		f.sinks["a"].mu.Lock()
		tampered := f.sinks["a"].content["a"]
		tampered.AccessToken = foreign
		f.sinks["a"].content["a"] = tampered
		f.sinks["a"].mu.Unlock()
		pass(checkEvery)
		if f.sinks["a"].held("a").AccessToken == foreign {
			t.Error("the sink was not mended")
		}
	})
}

func TestOnce(t *testing.T) {
	terminal := func(n int, a arrival) (provider.Reply, error) {
		if a.token == "a" {
			return refusal(http.StatusBadRequest, "invalid_scope", ""), nil
		}
		return good(n, a)
	}
	later := func(n int, a arrival) (provider.Reply, error) {
		if n < 3 {
			return refusal(http.StatusServiceUnavailable, "", ""), nil
		}
		return good(n, a)
	}
	tests := []struct {
		name    string
		answer  func(int, arrival) (provider.Reply, error)
		limit   time.Duration
		written []string
		no      bool // ErrNoToken
		refused bool
	}{
		{name: "everything is there", answer: good, limit: time.Minute, written: []string{"a", "b"}},
		{name: "passing failures are retried", answer: later, limit: 5 * time.Minute, written: []string{"a", "b"}},
		{name: "the time is up", answer: later, limit: 3 * time.Second, no: true},
		{name: "a refusal ends it, what succeeded is written", answer: terminal, limit: time.Hour, written: []string{"b"}, refused: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture((&server{answer: test.answer}).exchange, "a", "b")
				ctx, cancel := context.WithTimeout(t.Context(), test.limit)
				defer cancel()
				began := time.Now()
				err := f.agent.Once(ctx)
				var missing *TokenError
				if refused := errors.As(err, &missing) && missing.Failure != nil && missing.Failure.Class.Lasting(); refused != test.refused {
					t.Errorf("refused is %v: %v", refused, err)
				}
				if errors.Is(err, ErrNoToken) != test.no {
					t.Errorf("error %v", err)
				}
				if test.refused && time.Since(began) > time.Second {
					t.Errorf("it took %v to give up", time.Since(began))
				}
				for _, name := range test.written {
					if f.sinks[name].held(name).AccessToken.IsZero() {
						t.Errorf("sink %s was not written", name)
					}
				}
			})
		})
	}
}

func TestMissingTokenIsNoFailureOfTheSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, a arrival) (provider.Reply, error) {
			if a.token == "b" && n < 4 {
				return refusal(http.StatusServiceUnavailable, "", ""), nil
			}
			return good(n, a)
		}}
		f := newFixture(s.exchange, "a", "b")
		both := &memory{path: "/both", tokens: []string{"a", "b"}}
		cfg := *f.agent.parts.config()
		cfg.Sinks = []config.Sink{{Type: config.SinkFile, Path: "/both", Token: "both"}}
		f.sinks["both"] = both
		f = remade(f, s, &cfg)
		stop := f.run(t.Context())
		defer stop()
		pass(time.Second)
		if st := f.agent.Status(); st.Sinks[0].LastError != "" || st.Ready {
			t.Errorf("sink that waits for a token: %+v", st.Sinks[0])
		}
		pass(time.Minute)
		if both.held("b").AccessToken.IsZero() || both.writes != 1 {
			t.Errorf("the sink was written %d times", both.writes)
		}
	})
}

var _ Sink = (*sink.File)(nil)
