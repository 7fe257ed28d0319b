package signals

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/credagent/credagent/agent/config"
	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/devserver"
)

// TestWhatFollowsFromEvents is the mapping of docs/signals.md.
func TestWhatFollowsFromEvents(t *testing.T) {
	certificate := func(change, serial string) map[string]any {
		return map[string]any{"credential_type": "x509", "change_type": change, "x509_serial": serial}
	}
	for _, test := range []struct {
		name    string
		signal  devserver.Signal
		outcome string
		found   int    // old tokens
		doubt   bool   // slow probe
		revoked string // certificate
	}{
		{"a session was revoked", devserver.Signal{Event: "session-revoked"}, status.SignalActed, 1, false, ""},
		{"claims changed", devserver.Signal{Event: "token-claims-change"}, status.SignalActed, 1, false, ""},
		{"our certificate was revoked", devserver.Signal{Event: "credential-change", Payload: certificate("revoke", "0a1b")}, status.SignalActed, 0, false, "payments 0a1b"},
		{"our certificate was deleted", devserver.Signal{Event: "credential-change", Payload: certificate("delete", "0a1b")}, status.SignalActed, 0, false, "payments 0a1b"},
		{"another certificate was revoked", devserver.Signal{Event: "credential-change", Payload: certificate("revoke", "ffff")}, status.SignalIgnored, 0, false, "payments ffff"},
		{"our certificate was made", devserver.Signal{Event: "credential-change", Payload: certificate("create", "0a1b")}, status.SignalIgnored, 0, false, ""},
		{"a password was changed", devserver.Signal{Event: "credential-change", Payload: map[string]any{"credential_type": "password", "change_type": "revoke"}}, status.SignalIgnored, 0, false, ""},
		{"an account was disabled", devserver.Signal{Event: "account-disabled"}, status.SignalActed, 1, true, ""},
		{"an account was purged", devserver.Signal{Event: "account-purged"}, status.SignalActed, 1, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.memory = &memory{}
				w.start()
				w.settle(time.Minute)
				test.signal.Client = "app-1"
				jti := w.signal(test.signal)
				if got := w.stream.Status().LastEvent; got.Outcome != test.outcome || got.Event != test.signal.Event {
					t.Errorf("the last event is %+v", got)
				}
				if got := w.found(); got != test.found {
					t.Errorf("an old token was found %d times, want %d", got, test.found)
				}
				if got := len(w.doubts) > 0; got != test.doubt {
					t.Errorf("doubts are %v", w.doubts)
				}
				if got := strings.Join(w.revoked, ","); got != test.revoked {
					t.Errorf("revoked is %q, want %q", got, test.revoked)
				}
				if acked := w.only().Acked; acked[len(acked)-1] != jti {
					t.Errorf("acknowledged are %v, want %s last", acked, jti)
				}
			})
		})
	}
}

// TestOtherEventsAreAcknowledged: what nothing follows from must not come again and again.
func TestOtherEventsAreAcknowledged(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start()
		w.settle(time.Minute)
		for i, uri := range []string{caep + "assurance-level-change", caep + "device-compliance-change", risc + "account-enabled", "https://example.com/made-up"} {
			jti := string(rune('a' + i))
			w.queue(jti, map[string]any{"events": map[string]any{uri: map[string]any{}}})
		}
		w.settle(time.Second)
		if got := w.only(); got.Waiting != 0 || len(got.Refused) != 0 {
			t.Errorf("%d wait, refused are %v", got.Waiting, got.Refused)
		}
		if w.found() != 0 {
			t.Error("a token was replaced")
		}
	})
}

// queue sends a SET with the usual claims, but for some.
func (w *world) queue(jti string, changes map[string]any) {
	w.t.Helper()
	claims := map[string]any{
		"iss": issuer, "aud": "urn:credagent:receiver:app-1", "jti": jti, "iat": time.Now().Unix(),
		"sub_id": map[string]any{"format": "iss_sub", "iss": issuer, "sub": "app-1"},
		"events": map[string]any{uriOf(config.EventSessionRevoked): map[string]any{"event_timestamp": time.Now().Unix()}},
	}
	for name, value := range changes {
		claims[name] = value
	}
	set, err := w.server.SignSET(nil, claims)
	if err != nil {
		w.t.Fatal(err)
	}
	w.server.Queue(jti, set)
}

// TestEventOlderThanTheTokenIsDropped: nothing is sent for what the token does not know of any more.
func TestEventOlderThanTheTokenIsDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start()
		w.settle(time.Minute)
		w.refresh()
		w.signal(devserver.Signal{Event: "session-revoked", Client: "app-1", At: time.Now().Add(-30 * time.Second)})
		if got := w.stream.Status().LastEvent.Outcome; got != status.SignalStale || w.found() != 0 {
			t.Errorf("the outcome is %s, and an old token was found %d times", got, w.found())
		}
	})
}

// TestEventIsForgottenWhenTheTokenIsNewer: what was stored of it goes, so that it is not done again.
func TestEventIsForgottenWhenTheTokenIsNewer(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		w.start()
		w.settle(time.Minute)
		w.signal(devserver.Signal{Event: "session-revoked", Client: "app-1"})
		if got := w.memory.get().Pending; len(got) != 1 || w.stream.Status().Pending != 1 {
			t.Fatalf("stored are %v", got)
		}
		w.refresh()
		w.settle(time.Minute)
		if got := w.memory.get().Pending; len(got) != 0 {
			t.Errorf("still stored are %v", got)
		}
	})
}

// TestNothingIsLostOnceAcknowledged: a process that is killed after an event was acknowledged, and before
// the token was replaced, leaves that to the next one.
func TestNothingIsLostOnceAcknowledged(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		w.start()
		w.settle(time.Minute)
		w.signal(devserver.Signal{Event: "session-revoked", Client: "app-1"})
		if w.only().Waiting != 0 {
			t.Fatal("it was not acknowledged")
		}
		w.outdated = false // the next process knows nothing
		w.restart()
		w.settle(time.Second)
		if w.found() != 2 {
			t.Errorf("an old token was found %d times, want once by each process", w.found())
		}
		w.refresh()
		w.settle(time.Minute)
		w.restart()
		w.settle(time.Minute)
		if w.found() != 2 {
			t.Errorf("done once more: %d", w.found())
		}
	})
}

// TestAcknowledgedOnlyWhenStored: a state that cannot be written is no reason to lose an event, nor to
// send requests that bring nothing.
func TestAcknowledgedOnlyWhenStored(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		w.start()
		w.settle(time.Minute)
		w.memory.setFail(errors.New("no space left on device"))
		jti := w.signal(devserver.Signal{Event: "session-revoked", Client: "app-1"})
		if w.found() != 1 {
			t.Error("the token waits for the disk")
		}
		before := len(w.requests())
		w.settle(10 * time.Minute)
		if got := len(w.requests()) - before; got > 0 || w.only().Waiting != 1 {
			t.Errorf("%d requests while nothing can be stored, %d SETs wait", got, w.only().Waiting)
		}
		if s := w.stream.Status(); s.Healthy || !strings.Contains(s.LastError, "cannot be saved") {
			t.Errorf("the status is %+v", s)
		}
		w.memory.setFail(nil)
		w.settle(2 * time.Minute)
		if acked := w.only().Acked; acked[len(acked)-1] != jti || w.found() != 1 {
			t.Errorf("acknowledged are %v, found %d times", acked, w.found())
		}
	})
}

// TestReplayIsActedUponOnce: within a process and over a restart.
func TestReplayIsActedUponOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		w.start()
		w.settle(time.Minute)
		at := time.Now()
		for range 3 {
			w.queue("replayed", map[string]any{"iat": at.Unix(), "events": map[string]any{uriOf(config.EventSessionRevoked): map[string]any{}}})
			w.settle(time.Minute)
		}
		w.restart()
		w.settle(time.Minute)
		w.queue("replayed", map[string]any{"iat": time.Now().Unix()})
		w.settle(time.Minute)
		if w.found() > 2 { // once by each process, as the token was never replaced
			t.Errorf("acted upon %d times", w.found())
		}
		if w.only().Waiting != 0 {
			t.Error("replays are not acknowledged")
		}
		if got := w.stream.Status().LastEvent; got == nil || got.Outcome != status.SignalDuplicate {
			t.Errorf("the last event is %v, status %+v, the log:\n%s", got, w.stream.Status(), w.log.String())
		}
	})
}

// TestClockSkew: an event is as old as the transmitter's Date says, whatever this host's clock shows.
func TestClockSkew(t *testing.T) {
	for name, off := range map[string]time.Duration{"ahead": 10 * time.Minute, "behind": -10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				date := func() string { return time.Now().Add(off).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") }
				w.dates(date)
				w.start()
				w.settle(time.Minute)
				w.queue("new", map[string]any{"iat": time.Now().Add(off).Unix(), "events": map[string]any{uriOf(config.EventSessionRevoked): map[string]any{"event_timestamp": time.Now().Add(off).Unix()}}})
				w.settle(time.Second)
				if w.found() != 1 {
					t.Fatalf("an event of now was acted upon %d times; the log:\n%s", w.found(), w.log.String())
				}
				w.refresh()
				w.settle(time.Second)
				old := time.Now().Add(off - time.Minute).Unix()
				w.queue("old", map[string]any{"iat": old, "events": map[string]any{uriOf(config.EventSessionRevoked): map[string]any{"event_timestamp": old}}})
				w.settle(time.Second)
				if w.found() != 1 {
					t.Errorf("an event older than the token was acted upon")
				}
			})
		})
	}
}

// TestEventOfTheFutureIsOne: a clock that runs far ahead and says nothing of it brings one refresh, not one
// after another.
func TestEventOfTheFutureIsOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.memory = &memory{}
		w.start()
		w.settle(time.Minute)
		w.signal(devserver.Signal{Event: "session-revoked", Client: "app-1", At: time.Now().AddDate(1, 0, 0)})
		w.settle(time.Minute)
		w.refresh()
		w.settle(time.Hour)
		w.restart()
		w.settle(time.Hour)
		if w.found() != 1 {
			t.Errorf("acted upon %d times", w.found())
		}
	})
}

// TestEventsInOldUnits: milliseconds, as drafts of CAEP had them.
func TestEventsInOldUnits(t *testing.T) {
	at := time.Unix(1790000000, 0)
	for _, text := range []string{"1790000000", "1790000000000", "1.79e9", "1790000000.25"} {
		got, ok := instant(jsonNumber(text))
		if !ok || got.Sub(at).Abs() > time.Second {
			t.Errorf("%s is %v", text, got)
		}
	}
	for _, text := range []string{"", "-1", "0", "1e300", "x"} {
		if got, ok := instant(jsonNumber(text)); ok {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestSubjects(t *testing.T) {
	known := []config.Subject{{Client: "payments", Issuer: "https://idp", Sub: "app-1"}, {Client: "reports", Opaque: "r-1"}}
	for _, test := range []struct {
		name, subject string
		critical      []string
		clients       string // "-" for no subject at all
		cannot        string
	}{
		{"iss_sub", `{"format":"iss_sub","iss":"https://idp","sub":"app-1"}`, nil, "payments", ""},
		{"of another client", `{"format":"iss_sub","iss":"https://idp","sub":"app-2"}`, nil, "", ""},
		{"of another issuer", `{"format":"iss_sub","iss":"https://idp/","sub":"app-1"}`, nil, "", ""},
		{"in another case", `{"format":"iss_sub","iss":"https://idp","sub":"APP-1"}`, nil, "", ""},
		{"opaque", `{"format":"opaque","id":"r-1"}`, nil, "reports", ""},
		{"another format with the same id", `{"format":"account","id":"r-1"}`, nil, "", ""},
		{"email", `{"format":"email","email":"x@example.com"}`, nil, "", ""},
		{"aliases", `{"format":"aliases","identifiers":[{"format":"email","email":"x"},{"format":"opaque","id":"r-1"}]}`, nil, "reports", ""},
		{"a member", `{"format":"complex","user":{"format":"opaque","id":"r-1"}}`, nil, "reports", ""},
		{"a member and a session", `{"format":"complex","user":{"format":"opaque","id":"r-1"},"session":{"format":"opaque","id":"s"}}`, nil, "reports", ""},
		{"an application of somebody else's session", `{"format":"complex","application":{"format":"opaque","id":"r-1"},"user":{"format":"opaque","id":"alice"}}`, nil, "", ""},
		{"a tenant alone that is none of ours", `{"format":"complex","tenant":{"format":"opaque","id":"t"}}`, nil, "", ""},
		{"a critical member that is not understood", `{"format":"complex","user":{"format":"opaque","id":"r-1"},"tenant":{"format":"opaque","id":"t"}}`, []string{"tenant"}, "reports", "tenant"},
		{"a critical member that is understood", `{"format":"complex","user":{"format":"opaque","id":"r-1"}}`, []string{"user"}, "reports", ""},
		{"a critical member that is ours", `{"format":"complex","tenant":{"format":"opaque","id":"r-1"}}`, []string{"tenant"}, "reports", ""},
		{"a member of an odd kind", `{"format":"complex","user":7,"session":{"format":"opaque","id":"r-1"}}`, nil, "", ""},
		{"no format", `{"id":"r-1"}`, nil, "-", ""},
		{"empty", `{"format":"complex"}`, nil, "-", ""},
		{"a text", `"r-1"`, nil, "-", ""},
		{"nothing", ``, nil, "-", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, ok := readSubject([]byte(test.subject))
			if !ok {
				if test.clients != "-" {
					t.Error("it is no subject")
				}
				return
			}
			if got := strings.Join(s.clients(known), ","); got != test.clients {
				t.Errorf("it means %q, want %q", got, test.clients)
			}
			if got := s.cannot(test.critical, known); got != test.cannot {
				t.Errorf("it cannot be processed for %q, want %q", got, test.cannot)
			}
		})
	}
}

// TestCriticalMemberDiscardsTheEvent: the transmitter says which members are critical.
func TestCriticalMemberDiscardsTheEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start()
		w.settle(time.Minute)
		w.queue("critical", map[string]any{"sub_id": map[string]any{"format": "complex",
			"application": map[string]any{"format": "iss_sub", "iss": issuer, "sub": "app-1"}, "tenant": map[string]any{"format": "opaque", "id": "t"}}})
		w.settle(time.Second)
		if w.found() != 0 || w.only().Waiting != 0 || !strings.Contains(w.log.String(), "critical member") {
			t.Errorf("found %d, waiting %d; the log:\n%s", w.found(), w.only().Waiting, w.log.String())
		}
	})
}
