package signals

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/devserver"
)

// TestAMillionEvents: a transmitter that never runs out of events gets no more requests than the ceiling,
// which every test is held to, and costs no token.
func TestAMillionEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		n := 0
		w.intercept = func(r *http.Request) (*http.Response, error) {
			if !strings.HasPrefix(r.URL.Path, "/ssf/poll") {
				return nil, nil
			}
			var sets []string
			for range firstBatch {
				n++
				sets = append(sets, fmt.Sprintf(`"e%d":"a.b.c"`, n))
			}
			return answer(http.StatusOK, `{"moreAvailable":true,"sets":{`+strings.Join(sets, ",")+`}}`)
		}
		w.start()
		w.settle(2 * time.Hour)
		if got := w.count("/poll"); got > 120*policy.MaxInWindow {
			t.Errorf("%d polls in two hours", got)
		}
		if w.found() != 0 || len(w.stream.refused) > 2*firstBatch {
			t.Errorf("found %d, %d refusals are kept", w.found(), len(w.stream.refused))
		}
	})
}

// TestAFloodOfGoodEvents: each is acknowledged, and together they are one refresh, and what is remembered is
// bounded.
func TestAFloodOfGoodEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		w.start()
		w.settle(time.Minute)
		for range 300 {
			if _, err := w.server.Signal(devserver.Signal{Event: "session-revoked", Client: "app-1"}); err != nil {
				t.Fatal(err)
			}
		}
		w.settle(10 * time.Minute)
		if got := w.only(); got.Waiting != 0 {
			t.Errorf("%d wait", got.Waiting)
		}
		if got := w.memory.get(); len(got.Pending) != 1 || len(got.Seen) > maxSeen {
			t.Errorf("stored are %d effects and %d marks", len(got.Pending), len(got.Seen))
		}
	})
}

// TestWhatIsRememberedIsBounded: the oldest marks go first.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	s := New(Options{Roll: func() float64 { return 0 }, Log: quiet()})
	for i := range maxSeen + 500 {
		s.remember(fmt.Sprint(i))
	}
	if len(s.seen) != maxSeen || len(s.record.Seen) != maxSeen || s.seen[digest("499")] || !s.seen[digest("500")] {
		t.Errorf("%d and %d marks are kept", len(s.seen), len(s.record.Seen))
	}
}

// TestTransmitterAwayForADay: it is asked ever more seldom, and works again when it is back.
func TestTransmitterAwayForADay(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		w.start()
		w.settle(time.Minute)
		before := len(w.requests())
		var back atomic.Bool
		w.stop()
		w.intercept = func(*http.Request) (*http.Response, error) {
			if !back.Load() {
				return nil, fmt.Errorf("connection refused")
			}
			return nil, nil
		}
		w.start()
		w.settle(24 * time.Hour)
		if n := len(w.requests()) - before; n > 400 {
			t.Errorf("%d requests in a day", n)
		}
		if s := w.stream.Status(); s.Healthy || s.ConsecutiveFailures == 0 || s.RetryAt == nil {
			t.Errorf("the status is %+v", s)
		}
		if _, err := w.server.Signal(devserver.Signal{Event: "session-revoked", Client: "app-1"}); err != nil {
			t.Fatal(err)
		}
		back.Store(true)
		w.settle(10 * time.Minute)
		if w.found() != 1 || !w.stream.Status().Healthy {
			t.Errorf("found %d, the status is %+v", w.found(), w.stream.Status())
		}
	})
}

// TestRetryAfterIsHonoured: by this process, the next one, and another command on the host.
func TestRetryAfterIsHonoured(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory, w.waits = &memory{}, &waits{}
		w.start()
		w.settle(time.Minute)
		w.stop()
		throttled := true
		w.intercept = func(*http.Request) (*http.Response, error) {
			if throttled {
				return answer(http.StatusTooManyRequests, "", "Retry-After", "7200")
			}
			return nil, nil
		}
		w.start()
		w.settle(time.Minute)
		asked := len(w.requests())
		throttled = false
		w.settle(30 * time.Minute)
		w.restart()
		w.stream.Wake()
		w.settle(time.Minute)
		if n := len(w.requests()) - asked; n > 0 {
			t.Errorf("%d requests although the transmitter asked for two hours", n)
		}
		w.stop()
		w.memory = &memory{} // only the host knows
		w.start()
		w.settle(time.Hour)
		if n := len(w.requests()) - asked; n > 0 {
			t.Errorf("%d requests although another command knows of the wait", n)
		}
		w.settle(time.Hour)
		if !w.stream.Status().Healthy {
			t.Errorf("after the wait the status is %+v", w.stream.Status())
		}
	})
}

// TestOversizedAnswer: fewer events are asked for, down to one.
func TestOversizedAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		huge := strings.Repeat(" ", maxBody+1)
		var asked []string
		w.intercept = func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/ssf/poll") {
				all := w.requests()
				asked = append(asked, all[len(all)-1].body)
				return answer(http.StatusOK, huge)
			}
			return nil, nil
		}
		w.start()
		w.settle(time.Hour)
		if n := len(asked); n < 6 || n > 40 || !strings.Contains(asked[n-1], `"maxEvents":1,`) {
			t.Errorf("%d polls, the last one was %s", n, asked[len(asked)-1])
		}
		if s := w.stream.Status(); s.Healthy || !strings.Contains(s.LastError, "longer than 1 MiB") {
			t.Errorf("the status is %+v", s)
		}
	})
}

// TestHang: an answer that never comes ends with the time limit, and is no reason to hurry.
func TestHang(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start()
		w.settle(time.Minute)
		w.stop()
		before := len(w.requests())
		w.intercept = func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		w.start()
		w.settle(6 * time.Hour)
		if n := len(w.requests()) - before; n > 100 {
			t.Errorf("%d requests in six hours", n)
		}
		if w.stream.Status().Healthy {
			t.Error("it is healthy")
		}
	})
}

// TestPollsThatAreCutOff: a proxy that ends every connection after a minute is no failure.
func TestPollsThatAreCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.intercept = func(r *http.Request) (*http.Response, error) {
			all := w.requests()
			if !strings.HasPrefix(r.URL.Path, "/ssf/poll") || !strings.Contains(all[len(all)-1].body, `"returnImmediately":false`) || w.stream.Status().VerifiedAt == nil {
				return nil, nil
			}
			timer := time.NewTimer(time.Minute)
			defer timer.Stop()
			select {
			case <-timer.C:
				return answer(http.StatusGatewayTimeout, "<html>")
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}
		w.start()
		w.settle(6 * time.Hour)
		if s := w.stream.Status(); !s.Healthy || strings.Contains(w.log.String(), "request for signals failed") {
			t.Errorf("the status is %+v; the log:\n%s", s, w.log.String())
		}
	})
}

// TestTransmitterThatHoldsNoPolls: one that answers at once with nothing is asked twice a minute.
func TestTransmitterThatHoldsNoPolls(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.intercept = func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/ssf/poll") {
				return answer(http.StatusOK, `{"sets":{}}`)
			}
			return nil, nil
		}
		w.start()
		w.settle(time.Hour)
		if n := w.count("/poll"); n > 130 || n < 60 {
			t.Errorf("%d polls in an hour", n)
		}
	})
}

// TestAcksThatAreIgnored: SETs that come again and again are not asked for again and again.
func TestAcksThatAreIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		set := ""
		w.intercept = func(r *http.Request) (*http.Response, error) {
			if set != "" && strings.HasPrefix(r.URL.Path, "/ssf/poll") {
				return answer(http.StatusOK, `{"sets":{"again":"`+set+`"},"moreAvailable":true}`)
			}
			return nil, nil
		}
		w.start()
		w.settle(time.Minute)
		var err error
		set, err = w.server.SignSET(nil, map[string]any{"iss": issuer, "aud": "urn:credagent:receiver:app-1", "jti": "again", "iat": time.Now().Unix(),
			"sub_id": map[string]any{"format": "iss_sub", "iss": issuer, "sub": "app-1"}, "events": map[string]any{caep + "session-revoked": map[string]any{}}})
		if err != nil {
			t.Fatal(err)
		}
		before := w.count("/poll")
		w.settle(time.Hour)
		if n := w.count("/poll") - before; n > 130 {
			t.Errorf("%d polls in an hour", n)
		}
		if w.found() != 1 {
			t.Errorf("acted upon %d times", w.found())
		}
	})
}

// TestRefusedToken: a token that the transmitter does not accept is a slow probe, which another one ends.
func TestRefusedToken(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		good := w.token
		w.token = "stolen-canary"
		w.start()
		w.settle(2 * time.Hour)
		if n := w.count("/ssf/stream"); n == 0 || n > 15 {
			t.Errorf("%d requests with a token that is refused in two hours", n)
		}
		if s := w.stream.Status(); !strings.Contains(s.LastError, "401") || s.Advice == "" || strings.Contains(s.LastError+w.log.String(), "stolen-canary") {
			t.Errorf("the status is %+v; the log:\n%s", s, w.log.String())
		}
		w.mu.Lock()
		w.token = good
		w.mu.Unlock()
		w.stream.Wake()
		w.settle(10 * time.Second)
		if !w.stream.Status().Healthy {
			t.Errorf("with a good token the status is %+v", w.stream.Status())
		}
	})
}

// TestTokenIsNotShownWhereItIsRepeated: a transmitter may repeat what it was sent.
func TestTokenIsNotShownWhereItIsRepeated(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.intercept = func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/ssf/") {
				return answer(http.StatusForbidden, `{"error":"no","error_description":"you sent `+r.Header.Get("Authorization")+`"}`)
			}
			return nil, nil
		}
		w.start()
		w.settle(time.Minute)
		if s := w.stream.Status(); strings.Contains(s.LastError+w.log.String(), w.token) || !strings.Contains(s.LastError, "403") {
			t.Errorf("the status is %+v", s)
		}
	})
}

// TestNoRequestWithoutAToken: there is nothing to ask with, and news of a token is acted upon at once.
func TestNoRequestWithoutAToken(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		good := w.token
		w.token = ""
		w.start()
		w.settle(time.Hour)
		if n := len(w.requests()); n > 0 {
			t.Errorf("%d requests", n)
		}
		w.mu.Lock()
		w.token = good
		w.mu.Unlock()
		w.stream.Wake()
		w.settle(time.Second)
		if len(w.requests()) == 0 {
			t.Error("the token is not used")
		}
	})
}

// TestRedirectIsNotFollowed: our token would go along.
func TestRedirectIsNotFollowed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.intercept = func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/ssf/stream") {
				return answer(http.StatusTemporaryRedirect, "", "Location", issuer+"/elsewhere")
			}
			return nil, nil
		}
		w.start()
		w.settle(time.Minute)
		if n := w.count("/elsewhere"); n > 0 {
			t.Error("a redirect was followed")
		}
	})
}
