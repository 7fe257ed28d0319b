package delivery

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/credagent/credagent/agent/metrics"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/sink"
	"github.com/credagent/credagent/token"
)

// scripted is a sink without a file system: what it holds, and how it answers, can be changed.
type scripted struct {
	tokens []string

	mu       sync.Mutex
	shown    string // guarded by mu, as are all that follow
	mode     string // "" is right
	writes   int
	writeErr error
	holdsErr error
	hang     chan struct{} // Holds waits for its end; nil for not at all
}

func (s *scripted) Path() string     { return "/run/app/token" }
func (s *scripted) Tokens() []string { return s.tokens }
func (s *scripted) Untouched() bool  { return false }

// set changes the sink under the lock.
func (s *scripted) set(change func(s *scripted)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *scripted) content() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown
}

func (s *scripted) render(lookup sink.Lookup) (string, error) {
	text := ""
	for _, name := range s.tokens {
		t, ok := lookup(name)
		if !ok {
			return "", &sink.MissingTokenError{Token: name}
		}
		text += t.AccessToken.Reveal() + " "
	}
	return text, nil
}

func (s *scripted) Write(lookup sink.Lookup) (sink.Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := s.render(lookup)
	if err == nil {
		err = s.writeErr
	}
	if err != nil {
		return sink.Unchanged, err
	}
	s.mode = ""
	if s.shown == text {
		return sink.Unchanged, nil
	}
	s.writes++
	s.shown = text
	return sink.Written, nil
}

func (s *scripted) Mend(lookup sink.Lookup) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := s.render(lookup)
	if err != nil || s.shown != text {
		return false, err
	}
	s.mode = ""
	return true, nil
}

func (s *scripted) Holds(lookup sink.Lookup) (bool, error) {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := s.render(lookup)
	return err == nil && s.shown == text && s.mode == "", errors.Join(err, s.holdsErr)
}

// issued are the tokens that a writer looks up.
type issued struct {
	mu    sync.Mutex
	byNow map[string]token.Token // guarded by mu
}

func (i *issued) issue(name, accessToken string, life time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.byNow == nil {
		i.byNow = map[string]token.Token{}
	}
	i.byNow[name] = token.Token{Name: name, AccessToken: secret.New(accessToken), Expiry: time.Now().Add(life)}
}

func (i *issued) newest(name string) (token.Token, time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.byNow[name], time.Time{}
}

// writing makes a writer of a sink over issued tokens.
func writing(s sink.Sink, i *issued, actions ...Action) *Writer {
	return NewWriter(s, Options{
		Newest: i.newest, Actions: actions, Roll: func() float64 { return 0.5 }, Changed: func() {},
		Metrics: metrics.New(prometheus.NewRegistry(), "test"), Log: slog.New(slog.DiscardHandler),
	})
}

// A sink is held as long as it was last seen to be so.
func TestReadinessIsTrue(t *testing.T) {
	broken := errors.New("it is a symbolic link")
	for name, spoil := range map[string]func(s *scripted){
		"changed, and cannot be repaired":       func(s *scripted) { s.shown, s.writeErr = "garbage", broken },
		"emptied, and cannot be repaired":       func(s *scripted) { s.shown, s.writeErr = "", broken },
		"mode drifted, and cannot be repaired":  func(s *scripted) { s.mode, s.writeErr = "0000", broken },
		"cannot be looked at, nor written":      func(s *scripted) { s.holdsErr, s.writeErr = broken, broken },
		"right to look at, but cannot be fixed": func(s *scripted) { s.mode, s.writeErr = "setuid", broken },
		"an older token put back":               func(s *scripted) { s.shown, s.writeErr = "older ", broken },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, tokens := &scripted{tokens: []string{"graph"}}, &issued{}
				tokens.issue("graph", "one", time.Hour)
				w := writing(s, tokens)
				defer w.Stop(t.Context())
				w.Start()
				synctest.Wait()
				if !w.UpToDate() || !w.Status().Holds {
					t.Fatal("it is not held after the first write")
				}
				s.set(spoil)
				w.Check()
				synctest.Wait()
				for range 4 { // retries do not make it held
					if st := w.Status(); w.UpToDate() || st.Holds || st.LastError == "" {
						t.Errorf("held: %v, status %+v", w.UpToDate(), st)
					}
					pass(time.Minute)
				}
				s.set(func(s *scripted) { s.writeErr, s.holdsErr = nil, nil })
				pass(2 * time.Minute)
				if st := w.Status(); !w.UpToDate() || st.LastError != "" || s.content() != "one " {
					t.Errorf("mended, but held: %v, status %+v", w.UpToDate(), st)
				}
			})
		})
	}
}

// A write that fails for the token that is there already leaves nothing that is known to be held.
func TestAFailedWriteHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tokens := &scripted{tokens: []string{"graph"}}, &issued{}
		tokens.issue("graph", "one", time.Hour)
		w := writing(s, tokens)
		defer w.Stop(t.Context())
		w.Start()
		synctest.Wait()
		s.set(func(s *scripted) { s.writeErr = errors.New("read-only file system") })
		w.Notify()
		synctest.Wait()
		if w.UpToDate() {
			t.Error("it is held")
		}
	})
}

// A look that does not end tells nothing, and so does not keep a sink held.
func TestAHangingCheckHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tokens := &scripted{tokens: []string{"graph"}}, &issued{}
		tokens.issue("graph", "one", time.Hour)
		w := writing(s, tokens)
		defer w.Stop(t.Context())
		w.Start()
		synctest.Wait()
		hang := make(chan struct{})
		s.set(func(s *scripted) { s.hang, s.writeErr = hang, errors.New("stale file handle") })
		go w.Check()
		synctest.Wait()
		if !w.UpToDate() {
			t.Error("it is not held while a check is under way")
		}
		w.Check()
		synctest.Wait()
		if w.UpToDate() {
			t.Error("it is held")
		}
		close(hang)
	})
}

// Nothing is done with an expired token: what somebody else put into the file may be good.
func TestExpiredTokensAreNotWritten(t *testing.T) {
	none, nothing := func(*scripted, *issued) {}, func(*scripted) {}
	for name, tc := range map[string]struct {
		tokens []string
		before func(s *scripted, tokens *issued) // an instant before the token expires
		after  func(s *scripted)
		want   string
		holds  bool
	}{
		"nothing happens":       {[]string{"graph"}, none, nothing, "one ", true},
		"somebody replaces it":  {[]string{"graph"}, none, func(s *scripted) { s.shown = "by hand" }, "by hand", false},
		"somebody empties it":   {[]string{"graph"}, none, func(s *scripted) { s.shown = "" }, "", false},
		"its mode drifts":       {[]string{"graph"}, none, func(s *scripted) { s.mode = "0666" }, "one ", true},
		"mode and content do":   {[]string{"graph"}, none, func(s *scripted) { s.shown, s.mode = "by hand", "0640" }, "by hand", false},
		"one of two expires":    {[]string{"graph", "mail"}, none, func(s *scripted) { s.shown = "by hand" }, "by hand", false},
		"the other is replaced": {[]string{"graph", "mail"}, func(_ *scripted, tokens *issued) { tokens.issue("mail", "new", time.Hour) }, nothing, "one two ", false},
		"writing fails until then": {[]string{"graph"}, func(s *scripted, tokens *issued) {
			s.writeErr = errors.New("no space left on device")
			tokens.issue("graph", "late", time.Second)
		}, func(s *scripted) { s.writeErr = nil }, "one ", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var acted int
				s, tokens := &scripted{tokens: tc.tokens}, &issued{}
				tokens.issue("graph", "one", time.Minute)
				tokens.issue("mail", "two", time.Hour)
				w := writing(s, tokens, fake{"act", func(context.Context) error { acted++; return nil }})
				defer w.Stop(t.Context())
				w.Start()
				pass(59 * time.Second)
				s.set(func(s *scripted) { tc.before(s, tokens) })
				pass(1500 * time.Millisecond)
				s.set(tc.after)
				w.Notify()
				synctest.Wait()
				for range 3 {
					w.Check()
					w.RerunActions()
					pass(time.Minute)
				}
				st := w.Status()
				if s.content() != tc.want || acted != 1 || !st.Expired || st.Holds != tc.holds || s.mode != "" && tc.holds {
					t.Errorf("it holds %q with mode %q, acted %d times, status %+v", s.content(), s.mode, acted, st)
				}
				if behind, _ := w.Behind(); behind {
					t.Error("it lacks a token that is there and good")
				}
				tokens.issue("graph", "renewed", time.Hour)
				w.Notify()
				pass(time.Second)
				if st := w.Status(); acted != 2 || st.Expired || !st.Holds {
					t.Errorf("renewed, it acted %d times, status %+v", acted, st)
				}
			})
		})
	}
}
