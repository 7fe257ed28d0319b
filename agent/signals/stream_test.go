package signals

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/internal/devserver"
)

// inBubble runs a test in virtual time, with a world of its own.
func inBubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

func TestStreamIsSetUpAndHealthy(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start()
		w.settle(time.Minute)
		s := w.stream.Status()
		if !s.Healthy || s.State != "enabled" || s.VerifiedAt == nil || s.LastError != "" {
			t.Errorf("the status is %+v; the log:\n%s", s, w.log.String())
		}
		if len(s.Events) != len(config.SignalEvents()) {
			t.Errorf("it delivers %v", s.Events)
		}
	})
}

// TestStreamAsksForWhatCanBeActedUpon: events_requested are those of the configuration, delivered by polling
// (OpenID SSF 1.0, 8.1.1.1).
func TestStreamAsksForWhatCanBeActedUpon(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.Events = []string{config.EventSessionRevoked}
		w.start()
		w.settle(time.Minute)
		for _, r := range w.requests() {
			if r.what == "POST /ssf/stream" && (!strings.Contains(r.body, `"events_requested":["https://schemas.openid.net/secevent/caep/event-type/session-revoked"]`) || !strings.Contains(r.body, `"method":"urn:ietf:rfc:8936"`)) {
				t.Errorf("asked for %s", r.body)
			}
		}
		w.stop()
		w.cfg.Events = config.SignalEvents()
		w.start()
		w.settle(time.Minute)
		if got := w.only().Events; len(got) != len(config.SignalEvents()) {
			t.Errorf("after a change of the configuration the stream delivers %v", got)
		}
	})
}

// TestIssuerIsCompared: metadata of another issuer is never believed (OpenID SSF 1.0, 7.2.3).
func TestIssuerIsCompared(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.intercept = w.changing("/.well-known/", func(m map[string]any) { m["issuer"] = issuer + "/" })
		w.start()
		w.settle(time.Hour)
		if n := w.count("/ssf/"); n > 0 {
			t.Errorf("%d requests to another issuer's endpoints", n)
		}
		if s := w.stream.Status(); s.Healthy || !strings.Contains(s.LastError, "issuer") || s.Advice == "" {
			t.Errorf("the status is %+v", s)
		}
		if n := w.count("/.well-known/"); n > 10 {
			t.Errorf("%d requests in an hour are no slow probe", n)
		}
	})
}

func TestMetadataIsBeforeTheIssuersPath(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://tr.example.com":          "https://tr.example.com/.well-known/ssf-configuration",
		"https://tr.example.com/":         "https://tr.example.com/.well-known/ssf-configuration",
		"https://tr.example.com:8443/a/b": "https://tr.example.com:8443/.well-known/ssf-configuration/a/b",
	} {
		if got, err := metadataURL(issuer); got != want || err != nil {
			t.Errorf("metadata of %s is at %s, %v; want %s", issuer, got, err, want)
		}
	}
}

// TestTokenIsNotSentInTheClear: endpoints are https, but for loopback.
func TestTokenIsNotSentInTheClear(t *testing.T) {
	for uri, ok := range map[string]bool{
		"https://a.example": true, "http://127.0.0.1:1/x": true, "http://a.example": false, "": false, "ftp://a": false,
		"https://user:pw@a.example": false, "https://a.example/#f": false, "/relative": false,
	} {
		if err := checkEndpoint(uri, false); (err == nil) != ok {
			t.Errorf("%q: %v", uri, err)
		}
	}
	if checkEndpoint("http://a.example", true) != nil {
		t.Error("plain http is refused where the client allows it")
	}
}

// TestStreamsIssuerAndAudienceAreChecked: a stream of another issuer or audience is none of ours.
func TestStreamsIssuerAndAudienceAreChecked(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"another issuer":   func(c map[string]any) { c["iss"] = "https://evil.example" },
		"no audience":      func(c map[string]any) { delete(c, "aud") },
		"delivery by push": func(c map[string]any) { c["delivery"] = map[string]any{"method": "urn:ietf:rfc:8935"} },
		"plain http":       func(c map[string]any) { c["delivery"].(map[string]any)["endpoint_url"] = "http://evil.example/poll" },
		"no stream_id":     func(c map[string]any) { delete(c, "stream_id") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.intercept = w.changing("/ssf/stream", change)
				w.start()
				w.settle(10 * time.Minute)
				if n := w.count("/poll"); n > 0 {
					t.Errorf("it was polled %d times", n)
				}
				if w.stream.Status().Healthy {
					t.Error("it is healthy")
				}
			})
		})
	}
	t.Run("another audience than configured", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.cfg.Audience = "https://me.example"
			w.start()
			w.settle(10 * time.Minute)
			if n := w.count("/poll"); n > 0 {
				t.Errorf("it was polled %d times", n)
			}
		})
	})
}

// TestAudienceIsKept: what the transmitter named when the stream was made counts from then on.
func TestAudienceIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		w.start()
		w.settle(time.Minute)
		if got := w.memory.get().Audience; len(got) != 1 || got[0] != "urn:credagent:receiver:app-1" {
			t.Fatalf("kept is the audience %v", got)
		}
		w.stop()
		w.intercept = w.changing("/ssf/stream", func(c map[string]any) { c["aud"] = "https://somebody.example" })
		w.start()
		w.settle(10 * time.Minute)
		if s := w.stream.Status(); s.Healthy || !strings.Contains(s.LastError, "aud has changed") {
			t.Errorf("the status is %+v", s)
		}
	})
}

// TestDeliveredEventsAreReliedUpon: events_delivered says what comes, not events_requested (OpenID SSF 1.0, 8.1.1).
func TestDeliveredEventsAreReliedUpon(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.intercept = w.changing("/ssf/stream", func(c map[string]any) {
			c["events_delivered"] = []string{uriOf(config.EventSessionRevoked), "https://example.com/other"}
		})
		w.start()
		w.settle(time.Minute)
		if s := w.stream.Status(); len(s.Events) != 1 || s.Events[0] != config.EventSessionRevoked {
			t.Errorf("the status says %v", s.Events)
		}
		if !strings.Contains(w.log.String(), "does not deliver events that were asked for") {
			t.Errorf("not logged:\n%s", w.log.String())
		}
		w.stop()
		w.intercept = w.changing("/ssf/stream", func(c map[string]any) { c["events_delivered"] = []string{} })
		w.start()
		w.settle(time.Minute)
		if s := w.stream.Status(); s.Healthy || !strings.Contains(s.LastError, "none of the events") {
			t.Errorf("a stream that delivers nothing is %+v", s)
		}
	})
}

// TestStreamIsFoundAgain: one stream is used again, with a state and without.
func TestStreamIsFoundAgain(t *testing.T) {
	for name, kept := range map[string]*memory{"with a state": {}, "without a state": nil} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.memory = kept
				w.start()
				w.settle(time.Minute)
				w.restart()
				w.settle(time.Minute)
				if n := w.count("POST /ssf/stream"); n != 1 {
					t.Errorf("%d streams were made", n)
				}
				w.only()
			})
		})
	}
}

// TestStreamThatIsGoneIsMadeAgain: also while it is polled.
func TestStreamThatIsGoneIsMadeAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		w.start()
		w.settle(time.Minute)
		first := w.only().ID
		w.server.DropStreams()
		w.settle(5 * time.Minute)
		if second := w.only().ID; second == first || !w.stream.Status().Healthy {
			t.Errorf("stream %s after %s, status %+v", second, first, w.stream.Status())
		}
	})
}

// TestOneStreamIsShared: a transmitter that allows one stream has that one used.
func TestOneStreamIsShared(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start()
		w.settle(time.Minute)
		w.stop()
		there := w.changing("/ssf/stream", func(c map[string]any) { c["description"] = "somebody's" })
		w.intercept = func(r *http.Request) (*http.Response, error) {
			switch {
			case r.Method == http.MethodPost && r.URL.Path == "/ssf/stream":
				return answer(http.StatusConflict, "")
			case r.URL.Path == "/ssf/stream" && r.URL.RawQuery == "":
				r.URL.RawQuery = "stream_id=" + w.only().ID // one that is alone, and no list
				return there(r)
			}
			return nil, nil
		}
		w.start()
		w.settle(time.Minute)
		if !w.stream.Status().Healthy {
			t.Errorf("the status is %+v; the log:\n%s", w.stream.Status(), w.log.String())
		}
	})
}

// TestSubjectsAreAdded: a transmitter that sends nothing by default is told of our subjects, once.
func TestSubjectsAreAdded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		w.start()
		w.settle(time.Minute)
		w.restart()
		w.settle(time.Minute)
		if n := w.count("/subjects/add"); n != 2 || w.only().Subjects != 2 {
			t.Errorf("%d requests added %d subjects", n, w.only().Subjects)
		}
	})
	inBubble(t, func(t *testing.T, w *world) {
		w.intercept = w.changing("/.well-known/", func(m map[string]any) { m["default_subjects"] = "ALL" })
		w.start()
		w.settle(time.Minute)
		if n := w.count("/subjects/add"); n != 0 {
			t.Errorf("%d subjects were added where all are there", n)
		}
	})
}

// TestStatusIsRead: a stream that is not enabled is not healthy, whether the receiver asks or is told.
func TestStatusIsRead(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var enabled atomic.Bool
		w.intercept = w.changing("/ssf/status", func(c map[string]any) {
			if !enabled.Load() {
				c["status"], c["reason"] = "paused", "maintenance"
			}
		})
		w.start()
		w.settle(time.Minute)
		if s := w.stream.Status(); s.Healthy || s.State != "paused" || !strings.Contains(s.LastError, "maintenance") {
			t.Errorf("the status is %+v", s)
		}
		enabled.Store(true)
		w.settle(20 * time.Minute)
		if s := w.stream.Status(); !s.Healthy {
			t.Errorf("after it was enabled again the status is %+v", s)
		}
	})
	inBubble(t, func(t *testing.T, w *world) {
		w.start()
		w.settle(time.Minute)
		id := w.only().ID
		set, err := w.server.SignSET(nil, map[string]any{"iss": issuer, "aud": "urn:credagent:receiver:app-1", "jti": "u1", "iat": time.Now().Unix(),
			"sub_id": map[string]any{"format": "opaque", "id": id}, "events": map[string]any{eventStreamUpdated: map[string]any{"status": "disabled", "reason": "by hand"}}})
		if err != nil {
			t.Fatal(err)
		}
		w.server.Queue("u1", set)
		w.settle(time.Second)
		if s := w.stream.Status(); s.Healthy || s.State != "disabled" || !strings.Contains(s.LastError, "by hand") {
			t.Errorf("the status is %+v", s)
		}
	})
}

// TestVerificationHasARandomState: each verification has another one, and only that is accepted.
func TestVerificationHasARandomState(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start()
		w.settle(25 * time.Hour)
		states := map[string]bool{}
		for _, r := range w.requests() {
			if strings.HasSuffix(r.what, "/verify") {
				states[r.body] = true
			}
		}
		if n := w.count("/verify"); n != 2 || len(states) != 2 {
			t.Errorf("%d verifications with %d states in 25 hours", n, len(states))
		}
		if s := w.stream.Status(); !s.Healthy {
			t.Errorf("the status is %+v", s)
		}
	})
}

func TestWrongStateIsReported(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start()
		w.settle(time.Minute)
		id := w.only().ID
		set, err := w.server.SignSET(nil, map[string]any{"iss": issuer, "aud": "urn:credagent:receiver:app-1", "jti": "v1", "iat": time.Now().Unix(),
			"sub_id": map[string]any{"format": "opaque", "id": id}, "events": map[string]any{eventVerification: map[string]any{"state": "guessed"}}})
		if err != nil {
			t.Fatal(err)
		}
		w.server.Queue("v1", set)
		w.settle(time.Second)
		if got := w.only().Refused["v1"]; got != "invalid_state" {
			t.Errorf("refused with %q", got)
		}
		if s := w.stream.Status(); s.Healthy {
			t.Errorf("the status is %+v", s)
		}
	})
}

// TestVerificationIsNotAskedForTooOften: not before min_verification_interval, whatever gets lost, and whoever
// restarts (OpenID SSF 1.0, 8.1.4.1).
func TestVerificationIsNotAskedForTooOften(t *testing.T) {
	const least = time.Hour
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		w.cfg.Interval = time.Minute
		minimum := w.changing("/ssf/stream", func(c map[string]any) { c["min_verification_interval"] = least.Seconds() })
		w.intercept = func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/ssf/poll") {
				return answer(http.StatusOK, `{"sets":{}}`) // the events get lost
			}
			return minimum(r)
		}
		w.start()
		for range 10 {
			w.settle(30 * time.Minute)
			w.restart()
		}
		w.settle(time.Minute)
		var last time.Time
		for _, r := range w.requests() {
			if strings.HasSuffix(r.what, "/verify") {
				if !last.IsZero() && r.at.Sub(last) < least {
					t.Errorf("two verifications within %v", r.at.Sub(last))
				}
				last = r.at
			}
		}
		if n := w.count("/verify"); n < 3 {
			t.Errorf("%d verifications in five hours", n)
		}
		if s := w.stream.Status(); s.Healthy || !strings.Contains(s.LastError, "verification") {
			t.Errorf("the status is %+v", s)
		}
	})
}

// TestVerificationOutlivesARestart: the state is that of the process before.
func TestVerificationOutlivesARestart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		held := true
		w.intercept = func(r *http.Request) (*http.Response, error) {
			if held && strings.HasPrefix(r.URL.Path, "/ssf/poll") {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return nil, nil
		}
		w.start()
		w.settle(10 * time.Second)
		w.stop()
		held = false
		w.start()
		w.settle(2 * time.Minute)
		if s := w.stream.Status(); !s.Healthy || s.VerifiedAt == nil || w.count("/verify") != 1 {
			t.Errorf("after %d verifications the status is %+v", w.count("/verify"), s)
		}
	})
}

// TestInactivityTimeoutShortensTheInterval: a stream that is not polled for too long may end (8.1.1).
func TestInactivityTimeoutShortensTheInterval(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.Interval = 24 * time.Hour
		w.intercept = w.changing("/ssf/stream", func(c map[string]any) { c["inactivity_timeout"] = 3600 })
		w.start()
		w.settle(6 * time.Hour)
		if n := w.count("/poll"); n < 6 || n > 20 {
			t.Errorf("%d polls in six hours with an inactivity_timeout of one", n)
		}
	})
}

// TestIntervalIsKept: polls are so far apart, and ask for an answer at once.
func TestIntervalIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.Interval = 10 * time.Minute
		w.start()
		w.settle(10 * time.Hour)
		if n := w.count("/poll"); n < 50 || n > 66 {
			t.Errorf("%d polls in ten hours, want about 60", n)
		}
		for _, r := range w.requests() {
			if strings.Contains(r.what, "/poll") && !strings.Contains(r.body, `"returnImmediately":true`) {
				t.Errorf("a poll is held: %s", r.body)
			}
		}
	})
}

// TestLongPollingSendsNoMoreThanNeeded: a poll is held as long as the transmitter holds it.
func TestLongPollingSendsNoMoreThanNeeded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start()
		w.settle(time.Hour)
		if n := w.count("/poll"); n > 130 { // the server holds them for 30 seconds
			t.Errorf("%d polls in an hour", n)
		}
		jti := w.signal(devserver.Signal{Event: "session-revoked", Client: "app-1"})
		if w.found() != 1 {
			t.Errorf("a second after the event nothing was replaced; the log:\n%s", w.log.String())
		}
		if acked := w.only().Acked; acked[len(acked)-1] != jti {
			t.Errorf("acknowledged are %v, want %s last", acked, jti)
		}
	})
}
