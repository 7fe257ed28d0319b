package delivery

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Actions that change their own sink, at once or by what they start, do not run for ever.
func TestActionsThatChangeTheirSink(t *testing.T) {
	const checkEvery = 27 * time.Second
	later := func(d time.Duration, s *scripted, text string) {
		time.AfterFunc(d, func() { s.set(func(s *scripted) { s.shown = text }) })
	}
	for name, tc := range map[string]struct {
		act  func(s *scripted) // after a second
		most int               // runs for one token
		why  string            // in the status after them
	}{
		"it does not":                {func(*scripted) {}, 1, ""},
		"it writes to it":            {func(s *scripted) { s.set(func(s *scripted) { s.shown += "\n" }) }, 1, "changed the sink itself"},
		"it empties it":              {func(s *scripted) { s.set(func(s *scripted) { s.shown = "" }) }, 1, "changed the sink itself"},
		"it changes its mode":        {func(s *scripted) { s.set(func(s *scripted) { s.mode = "0666" }) }, 1, "changed the sink itself"},
		"what it starts writes soon": {func(s *scripted) { later(5*time.Second, s, "edited") }, 1 + mostRepeats, "after each run"},
		"what it starts takes long":  {func(s *scripted) { later(4*time.Minute, s, "edited") }, 1 + mostRepeats, "after each run"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runs := 0
				s, tokens := &scripted{tokens: []string{"graph"}}, &issued{}
				w := writing(s, tokens, fake{"act", func(context.Context) error {
					pass(time.Second)
					runs++
					tc.act(s)
					return nil
				}})
				defer w.Stop(t.Context())
				for n, accessToken := range []string{"one", "two"} {
					tokens.issue("graph", accessToken, 24*time.Hour)
					w.Notify()
					for range int(2*time.Hour/checkEvery) - 1 {
						pass(checkEvery)
						w.Check()
					}
					on := w.Status().OnChange
					if runs != tc.most*(n+1) || !strings.Contains(on.LastError, tc.why) || (on.LastOutcome == "success") != (tc.why == "") {
						t.Errorf("token %d: %d runs, status %+v", n+1, runs, on)
					}
					if !w.Status().Holds || s.content() != accessToken+" " {
						t.Errorf("token %d: the sink holds %q", n+1, s.content())
					}
				}
				pass(time.Hour)
			})
		})
	}
}

// Somebody who changes a sink now and then has the actions follow each time: the program may have read
// what was there.
func TestActionsFollowEachRestoring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		s, tokens := &scripted{tokens: []string{"graph"}}, &issued{}
		tokens.issue("graph", "one", 24*time.Hour)
		w := writing(s, tokens, fake{"act", func(context.Context) error { runs++; return nil }})
		defer w.Stop(t.Context())
		w.Start()
		for range 3 * mostRepeats {
			pass(repeatWindow + time.Minute)
			s.set(func(s *scripted) { s.shown = "by hand" })
			w.Check()
		}
		synctest.Wait()
		if want := 1 + 3*mostRepeats; runs != want || w.Status().OnChange.LastOutcome != "success" {
			t.Errorf("%d runs, want %d; status %+v", runs, want, w.Status().OnChange)
		}
	})
}
