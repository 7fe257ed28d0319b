package agent

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/provider"
)

// asking is a server that asks for a wait of so many seconds.
func asking(status int, code, seconds string) func(int, arrival) (provider.Reply, error) {
	return func(int, arrival) (provider.Reply, error) { return refusal(status, code, seconds), nil }
}

// Once does not sit out a wait that is longer than its own time, whoever was asked for it, and says so.
func TestOnceWithinAWaitEndsAtOnceAndSaysSo(t *testing.T) {
	const key = "https://login.example.com/token id"
	tests := map[string]struct {
		answer   func(int, arrival) (provider.Reply, error)
		earlier  time.Duration // what another command was asked for
		limit    time.Duration
		atOnce   bool
		requests int
		says     string
		told     bool // in the log
	}{
		"another command's, longer":  {good, time.Minute, 10 * time.Second, true, 0, "no token yet; the server asked for no request for another 1m0s", true},
		"another command's, shorter": {good, 5 * time.Second, time.Minute, false, 1, "", true},
		"a day":                      {good, 24 * time.Hour, time.Hour, true, 0, "for another 24h0m0s", true},
		"over":                       {good, -time.Second, time.Minute, true, 1, "", false},
		"its own, throttled":         {asking(http.StatusTooManyRequests, "slow_down", "600"), 0, time.Minute, true, 1, "slow_down (429); the server asked for no request for another 10m", false},
		"its own, an outage":         {asking(http.StatusServiceUnavailable, "", "600"), 0, time.Minute, true, 1, "the server asked for no request for another 10m", false},
		"its own, a refusal":         {asking(http.StatusUnauthorized, "invalid_client", "600"), 0, time.Minute, true, 1, "invalid_client (401)", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{answer: tc.answer}
				f, out := logged(s, "a")
				f.random = func(string) func() float64 { return func() float64 { return 0 } }
				f.waits = &sharedWaits{until: map[string]time.Time{key: time.Now().Add(tc.earlier)}}
				f.make(f.agent.parts.config(), s.exchange)
				ctx, cancel := context.WithTimeout(t.Context(), tc.limit)
				defer cancel()
				began := time.Now()
				err := f.agent.Once(ctx)
				if took := time.Since(began); took < 2*time.Second != tc.atOnce {
					t.Errorf("it took %v", took)
				}
				if (err != nil) != (tc.says != "") || err != nil && !strings.Contains(err.Error(), tc.says) {
					t.Errorf("error %v, want %q", err, tc.says)
				}
				if tc.earlier > 0 && err != nil && !errors.Is(err, ErrNoToken) {
					t.Errorf("error %v is not ErrNoToken", err)
				}
				if got := strings.Count(out.String(), "waiting: the server asked an earlier process or another command"); got > 1 || (got == 1) != tc.told {
					t.Errorf("it is told %d times\n%s", got, out)
				}
				if got := len(s.requests()); got != tc.requests {
					t.Errorf("%d requests, want %d", got, tc.requests)
				}
			})
		})
	}
}

// Why the first credential was refused is told where the server lets nobody ask with the second.
func TestOnceTellsWhyTheFallbackHasToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwofold(t)
		w.refusal = refusal(http.StatusUnauthorized, "invalid_client", "600")
		w.random = func(string) func() float64 { return func() float64 { return 0 } }
		w.make(w.agent.parts.config(), nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := w.agent.Once(ctx)
		if err == nil || !strings.Contains(err.Error(), "invalid_client (401)") || !strings.Contains(err.Error(), "fallback_credential: no token yet; the server asked for no request for another 10m") {
			t.Errorf("error %v", err)
		}
	})
}
