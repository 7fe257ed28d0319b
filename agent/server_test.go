package agent

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/provider"
)

// An outage and a refusal cost the server no more requests because it names a short wait.
func TestShortRetryAfterEndsNoLadder(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		code   string
		most   int // in an hour
	}{
		"an outage":            {http.StatusServiceUnavailable, "", 30},
		"throttled":            {http.StatusTooManyRequests, "slow_down", 30},
		"a refused credential": {http.StatusUnauthorized, "invalid_client", 10},
		"a wrong scope":        {http.StatusBadRequest, "invalid_scope", 10},
	} {
		for _, wait := range []string{"0", "1", "Wed, 21 Oct 2015 07:28:00 GMT"} {
			t.Run(name+", "+wait, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := &server{answer: func(int, arrival) (provider.Reply, error) { return refusal(tc.status, tc.code, wait), nil }}
					f := newFixture(s.exchange, "a")
					defer f.run(t.Context())()
					pass(time.Hour)
					if got := len(s.requests()); got > tc.most {
						t.Errorf("%d requests in an hour, want %d at the most", got, tc.most)
					}
				})
			})
		}
	}
}

// A server that hands out one token until its end is asked at that end, without a failure.
func TestOneTokenUntilItsEnd(t *testing.T) {
	for _, life := range []time.Duration{22 * time.Second, time.Minute, time.Hour} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var end time.Time
				number := 0
				s := &server{answer: func(int, arrival) (provider.Reply, error) {
					if now := time.Now(); !now.Before(end) {
						number, end = number+1, now.Add(life+500*time.Millisecond)
					}
					return granted(fmt.Sprintf("token-%d", number), time.Until(end).Truncate(time.Second)), nil
				}}
				f := newFixture(s.exchange, "a")
				defer f.run(t.Context())()
				for range 5 {
					pass(life + 2*time.Second)
					if got := f.agent.Status().Tokens[0]; got.ConsecutiveFailures != 0 {
						t.Errorf("it failed: %+v", got)
					}
				}
				if number < 5 || len(s.requests()) > 4*number {
					t.Errorf("%d requests brought %d tokens", len(s.requests()), number)
				}
			})
		})
	}
}

// Claims that the token endpoint asks for in its refusal go with the next request, with or without cae.
func TestClaimsOfARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const claims = `{"access_token":{"polids":{"essential":true}}}`
		var mu sync.Mutex
		var asked []string // guarded by mu
		f := newFixture(func(_ context.Context, r provider.Request) (provider.Reply, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, r.Form.Get("claims"))
			if len(asked) == 1 {
				return provider.Reply{Status: http.StatusBadRequest, Header: http.Header{},
					Body: fmt.Appendf(nil, `{"error":"interaction_required","claims":%q}`, claims)}, nil
			}
			return granted("one", time.Hour), nil
		}, "a")
		defer f.run(t.Context())()
		pass(2 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(asked) != 2 || asked[0] != "" || asked[1] != claims {
			t.Errorf("requests asked for %q", asked)
		}
	})
}

func TestDefaultLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(nil, "a")
		cfg := *f.agent.parts.config()
		cfg.Tokens[0].DefaultLifetime = 2 * time.Hour
		requests := 0
		f.make(&cfg, func(context.Context, provider.Request) (provider.Reply, error) {
			requests++
			return provider.Reply{Status: http.StatusCreated, Header: http.Header{}, Body: []byte(`{"access_token":"one"}`)}, nil
		})
		stop := f.run(t.Context())
		pass(50 * time.Minute)
		stop()
		if got := f.agent.Status().Tokens[0]; requests != 1 || got.Expiry == nil || time.Until(*got.Expiry) < time.Hour {
			t.Errorf("%d requests, token %+v", requests, got)
		}
	})
}
