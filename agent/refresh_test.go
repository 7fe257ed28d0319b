package agent

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/provider"
	"github.com/credagent/credagent/agent/status"
)

// refresh asks for a refresh and waits for a minute at most.
func (f *fixture) refresh(t *testing.T, name string) (status.Refresh, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return f.agent.Refresh(ctx, name)
}

// wantHeld expects a refresh to be refused for a reason, and returns for how long.
func (f *fixture) wantHeld(t *testing.T, name string, reason policy.Reason) time.Duration {
	t.Helper()
	_, err := f.refresh(t, name)
	var held *HeldBackError
	if !errors.As(err, &held) || held.Reason != reason {
		t.Fatalf("refreshing %s: %v, want it held back for reason %d", name, err, reason)
	}
	return held.RetryIn
}

func TestRefreshNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f := newFixture(s.exchange, "a", "b")
		defer f.run(t.Context())()
		pass(time.Minute)
		got, err := f.refresh(t, "a")
		if err != nil || got.Outcome != "success" || got.ExpiresOn != time.Now().Add(time.Hour).Unix() {
			t.Errorf("Refresh = %+v, %v", got, err)
		}
		synctest.Wait()
		requests := s.requests()
		if len(requests) != 3 || requests[2].token != "a" {
			t.Fatalf("requests: %v, want a third one, for a", requests)
		}
		if held := f.sinks["a"].held("a").AccessToken.Reveal(); held != "token-3" {
			t.Errorf("the sink holds %q, want the new token", held)
		}
		if _, err := f.refresh(t, "c"); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("of an unknown name: %v", err)
		}
		pass(20 * time.Minute)
		if got := s.requests(); len(got) != 3 {
			t.Errorf("%d requests: a refresh by order did not take the place of the planned one", len(got))
		}
	})
}

func TestRefreshNeverUndercutsARetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.answer = func(n int, a arrival) (provider.Reply, error) {
			if n == 3 {
				return refusal(http.StatusServiceUnavailable, "", "600"), nil
			}
			return good(n, a)
		}
		f := newFixture(s.exchange, "a", "b")
		defer f.run(t.Context())()
		pass(time.Minute)
		got, err := f.refresh(t, "a")
		if err != nil || got.Outcome != "throttled" || got.Error == "" || got.Refused {
			t.Errorf("Refresh = %+v, %v", got, err)
		}
		if wait := time.Until(*got.RefreshAt); wait < 600*time.Second || wait > 661*time.Second {
			t.Errorf("the next request is said to come in %v", wait)
		}
		for _, name := range []string{"a", "b"} {
			if left := f.wantHeld(t, name, policy.ServerAsked); left < 600*time.Second || left > 661*time.Second {
				t.Errorf("%v left for %s", left, name)
			}
		}
		pass(10 * time.Minute)
		if got := s.requests(); got[len(got)-1].at.Before(got[2].at.Add(600*time.Second)) && len(got) != 3 {
			t.Errorf("a request within the Retry-After: %v", got)
		}
		pass(time.Minute + time.Second)
		if got, err := f.refresh(t, "b"); err != nil || got.Outcome != "success" {
			t.Errorf("afterwards: %+v, %v", got, err)
		}
	})
}

func TestRefreshOverridesOurOwnBackoffOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(int, arrival) (provider.Reply, error) {
			return refusal(http.StatusUnauthorized, "invalid_client", ""), nil
		}}
		f := newFixture(s.exchange, "a", "b")
		defer f.run(t.Context())()
		pass(2 * time.Second)
		if left := f.wantHeld(t, "b", policy.JustFailed); left != 3*time.Second {
			t.Errorf("%v left of the shortest retry, want 3s", left)
		}
		pass(3 * time.Second)
		got, err := f.refresh(t, "b")
		if err != nil || got.Outcome != "credential" || !got.Refused || got.Advice == "" {
			t.Errorf("Refresh = %+v, %v", got, err)
		}
		requests := s.requests()
		if len(requests) != 2 || requests[1].token != "b" {
			t.Fatalf("requests: %v, want one for b before a is tried again", requests)
		}
		pass(2*time.Minute - time.Second)
		if got := s.requests(); len(got) != 2 {
			t.Errorf("%d requests: the slow probe started again from its first step", len(got))
		}
		pass(2 * time.Minute)
		if got := s.requests(); len(got) != 3 {
			t.Errorf("%d requests: the slow probe does not go on", len(got))
		}
	})
}

func TestRefreshKeepsTheCeiling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f := newFixture(s.exchange, "a", "b")
		defer f.run(t.Context())()
		pass(time.Second)
		for range policy.MaxInWindow - 1 {
			if got, err := f.refresh(t, "a"); err != nil || got.Outcome != "success" {
				t.Fatalf("Refresh = %+v, %v", got, err)
			}
		}
		first := s.requests()[0].at
		if left := f.wantHeld(t, "a", policy.TooMany); left > policy.Window || left < policy.Window-5*time.Second {
			t.Errorf("%v left, want what is left of the minute", left)
		}
		if _, err := f.refresh(t, "b"); err != nil {
			t.Errorf("of another token: %v", err)
		}
		pass(time.Until(first.Add(policy.Window)))
		if got, err := f.refresh(t, "a"); err != nil || got.Outcome != "success" {
			t.Errorf("after the minute: %+v, %v", got, err)
		}
	})
}

func TestWhoAsksTogetherSharesOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f := newFixture(func(ctx context.Context, r provider.Request) (provider.Reply, error) {
			pass(time.Second)
			return s.exchange(ctx, r)
		}, "a")
		defer f.run(t.Context())()
		pass(time.Minute)
		var asking sync.WaitGroup
		for i := range 50 {
			asking.Go(func() {
				pass(time.Duration(i) * 10 * time.Millisecond) // most of them while the request is under way
				if got, err := f.refresh(t, "a"); err != nil || got.Outcome != "success" {
					t.Errorf("Refresh = %+v, %v", got, err)
				}
			})
		}
		asking.Wait()
		pass(time.Minute)
		if got := s.requests(); len(got) != 2 {
			t.Errorf("%d requests, want the first and one for all who asked", len(got))
		}
	})
}

func TestAnUrgentRequestPassesTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, a arrival) (provider.Reply, error) {
			if n == 1 {
				return provider.Reply{}, &provider.Failure{Kind: provider.KindNetwork, Message: "down"}
			}
			return good(n, a)
		}}
		f := newFixture(s.exchange, "a", "b", "c", "d")
		defer f.run(t.Context())()
		synctest.Wait()
		const last = "d" // what is due alike is served as it is configured, and a has failed
		began := time.Now()
		pass(policy.MinRetry)
		got, err := f.refresh(t, last)
		if err != nil || got.Outcome != "success" {
			t.Fatalf("Refresh = %+v, %v", got, err)
		}
		if requests := s.requests(); requests[1].token != last || time.Since(began) != policy.MinRetry {
			t.Errorf("the second request is for %s after %v, want %s at once", requests[1].token, time.Since(began), last)
		}
	})
}

func TestRefreshSaysWhenThereIsNoAnswerYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: good}
		f := newFixture(func(ctx context.Context, r provider.Request) (provider.Reply, error) {
			pass(9 * time.Second)
			return s.exchange(ctx, r)
		}, "a")
		defer f.run(t.Context())()
		pass(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		got, err := f.agent.Refresh(ctx, "a")
		if err != nil || got.Outcome != status.Pending || got.Expiry == nil {
			t.Errorf("Refresh = %+v, %v, want it pending", got, err)
		}
		pass(5 * time.Second)
		if got := s.requests(); len(got) != 2 {
			t.Errorf("%d requests: nobody waits any more, but it was asked for", len(got))
		}
	})
}

// slow is a server that answers a request only when it is let.
type slow struct {
	arrived chan struct{}
	answers chan struct{}
}

func (s *slow) exchange(ctx context.Context, _ provider.Request) (provider.Reply, error) {
	s.arrived <- struct{}{}
	select {
	case <-s.answers:
		return granted("token", time.Hour), nil
	case <-ctx.Done():
		return provider.Reply{}, ctx.Err()
	}
}

// TestRefreshSurvivesAReload: whoever waits is answered by the keeper that a reload puts in the old
// one's place, or told that the token is gone. It runs in real time: a reload waits for requests
// that are under way with a mutex, which virtual time does not see.
func TestRefreshSurvivesAReload(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(*config.Config)
		answers int // that the server gives after the first
		want    string
		err     error
	}{
		"another scope":  {func(cfg *config.Config) { cfg.Tokens[0].Scopes = []string{"scope-other"} }, 2, "success", nil},
		"another client": {func(cfg *config.Config) { cfg.Clients[0].ClientID = "other" }, 2, "success", nil},
		"no such token":  {func(cfg *config.Config) { cfg.Tokens, cfg.Sinks = nil, nil }, 0, "", ErrUnknownToken},
	} {
		t.Run(name, func(t *testing.T) {
			s := &slow{arrived: make(chan struct{}, 10), answers: make(chan struct{}, 10)}
			f := newFixture(s.exchange, "a")
			defer f.run(t.Context())()
			<-s.arrived
			s.answers <- struct{}{}
			for !f.agent.Status().Ready {
				<-f.agent.Changes()
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var asking sync.WaitGroup
			asking.Go(func() {
				if got, err := f.agent.Refresh(ctx, "a"); got.Outcome != test.want || !errors.Is(err, test.err) {
					t.Errorf("Refresh = %+v, %v", got, err)
				}
			})
			<-s.arrived
			for range test.answers {
				s.answers <- struct{}{}
			}
			if err := f.agent.Reload(t.Context(), f.changed(test.change)); err != nil {
				t.Fatal(err)
			}
			if test.err != nil {
				cancel() // who asked stops waiting
			}
			asking.Wait()
		})
	}
}
