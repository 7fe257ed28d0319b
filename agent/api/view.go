package api

import (
	"time"

	"github.com/credagent/credagent/agent/status"
)

// view is a status as the page shows it.
type view struct {
	status.Status
	Tokens   []tokenView
	Clients  []clientView
	Sinks    []sinkView
	Started  moment
	Reloaded *moment // when the configuration was last read again
	Next     *moment // the soonest request
}

// moment is an instant with how far away it is. The page's script keeps the distance true.
type moment struct {
	At    time.Time
	Words string
}

// tokenView is a token with its life as shares of its length.
type tokenView struct {
	status.Token
	Phase    status.Phase
	Passed   float64
	Refresh  float64
	Kind     status.Next
	Planned  moment
	Acquired *moment
	Expires  *moment
	Failed   *moment
	Rejected *moment // when a claims challenge was last handed in
}

type clientView struct {
	status.Client
	Credentials []credentialView
	Blocked     *moment // the server's Retry-After, while it holds
	Retry       *moment // credagent's own backoff, while it holds
}

type credentialView struct {
	status.Credential
	Ends *moment
}

type sinkView struct {
	status.Sink
	Waits   []string // for tokens that were never there
	Written *moment
	Failed  *moment
	Retry   *moment
}

func newView(s status.Status) view {
	v := view{Status: s, Started: since(s.Now, s.StartedAt)}
	if s.Reload != nil {
		v.Reloaded = past(s.Now, &s.Reload.At)
	}
	never := map[string]bool{}
	for _, t := range s.Tokens {
		shown := newTokenView(s, t)
		if v.Next == nil || shown.Planned.At.Before(v.Next.At) {
			v.Next = &shown.Planned
		}
		never[t.Name] = shown.Phase == status.PhaseNone
		v.Tokens = append(v.Tokens, shown)
	}
	for _, c := range s.Clients {
		v.Clients = append(v.Clients, newClientView(s.Now, c))
	}
	for _, k := range s.Sinks {
		v.Sinks = append(v.Sinks, newSinkView(s.Now, k, never))
	}
	return v
}

func newClientView(now time.Time, c status.Client) clientView {
	v := clientView{
		Client:  c,
		Blocked: pending(now, c.Gate.BlockedUntil),
		Retry:   pending(now, c.Gate.RetryAt),
	}
	for _, credential := range c.Credentials {
		v.Credentials = append(v.Credentials, credentialView{credential, ahead(now, credential.NotAfter)})
	}
	return v
}

func newSinkView(now time.Time, k status.Sink, never map[string]bool) sinkView {
	v := sinkView{
		Sink:    k,
		Written: past(now, k.LastSuccess),
		Failed:  past(now, k.LastErrorAt),
		Retry:   pending(now, k.RetryAt),
	}
	for _, name := range k.Tokens {
		if never[name] {
			v.Waits = append(v.Waits, name)
		}
	}
	return v
}

func newTokenView(s status.Status, t status.Token) tokenView {
	kind, at := s.Next(t)
	return tokenView{
		Token:    t,
		Phase:    t.Phase(),
		Passed:   t.Share(s.Now),
		Refresh:  t.Share(at),
		Kind:     kind,
		Planned:  until(s.Now, at),
		Acquired: past(s.Now, t.AcquiredAt),
		Expires:  ahead(s.Now, t.Expiry),
		Failed:   past(s.Now, t.LastErrorAt),
		Rejected: past(s.Now, t.LastChallengeAt),
	}
}

// nearly is what a second rounds down to nothing.
const nearly = time.Second / 2

// left is how long it is until an instant, in the whole milliseconds in which the page has both, so
// that its script, which writes these words anew, rounds as the server does.
func left(now, at time.Time) time.Duration {
	return time.Duration(at.UnixMilli()-now.UnixMilli()) * time.Millisecond
}

// until is an instant to come, and "now" when it has come.
func until(now, at time.Time) moment {
	if left(now, at) < nearly {
		return moment{at, "now"}
	}
	return moment{at, "in " + status.Span(left(now, at))}
}

func since(now, at time.Time) moment { return moment{at, status.Span(-left(now, at)) + " ago"} }

func ahead(now time.Time, at *time.Time) *moment {
	if at == nil {
		return nil
	}
	m := since(now, *at)
	if left(now, *at) > 0 {
		m = until(now, *at)
	}
	return &m
}

// pending is nil when there is nothing to wait for any more.
func pending(now time.Time, at *time.Time) *moment {
	if at == nil || left(now, *at) <= 0 {
		return nil
	}
	return ahead(now, at)
}

func past(now time.Time, at *time.Time) *moment {
	if at == nil {
		return nil
	}
	m := since(now, *at)
	return &m
}
