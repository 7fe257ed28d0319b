package api

import (
	"slices"
	"time"

	"github.com/credagent/credagent/agent/status"
)

// view is a status as the page shows it.
type view struct {
	status.Status
	Groups   []group // problems, the worst first
	Tokens   []tokenView
	Clients  []clientView
	Sinks    []sinkView
	Streams  []streamView
	Started  moment
	Reloaded *moment // when the configuration was last reloaded
	Next     *moment // the soonest request
}

// moment is an instant with its distance from now, which the page's script updates.
type moment struct {
	At    time.Time
	Words string
	Over  bool // it is past
}

// group is the problems of one level.
type group struct {
	Level   status.Level
	Title   string
	Matters []matterView
}

// matterView is a problem with links to its objects.
type matterView struct {
	status.Matter
	About     []link
	Owner     *link // the client of tokens
	Files     []link
	More      int // how many names are left out; MoreFiles of the files
	MoreFiles int
	Seen      *moment
	Ends      *moment
	Retry     *moment
	Manual    string // where to read more; "" for nowhere
}

// link leads to something on the page.
type link struct{ Name, Kind string }

// tokenView is a token with the positions in its lifetime as shares.
type tokenView struct {
	status.Token
	Level    status.Level
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
	Level       status.Level
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
	State   status.SinkState
	Expired *moment // when the first of its tokens did
	Written *moment
	Failed  *moment
	Retry   *moment
}

// streamView is a stream of Shared Signals.
type streamView struct {
	status.Stream
	Verified *moment
	Polled   *moment
	Event    *moment // when the last one came
	Retry    *moment
}

func newStreamView(now time.Time, s status.Stream) streamView {
	v := streamView{Stream: s, Verified: past(now, s.VerifiedAt), Polled: past(now, s.LastPollAt), Retry: pending(now, s.RetryAt)}
	if s.LastEvent != nil {
		v.Event = past(now, &s.LastEvent.At)
	}
	return v
}

func newView(s status.Status) view {
	v := view{Status: s, Started: since(s.Now, s.StartedAt)}
	if s.Reload != nil {
		v.Reloaded = past(s.Now, &s.Reload.At)
	}
	triage := s.Triage()
	v.Groups = newGroups(s.Now, triage)
	for _, t := range triage.Tokens {
		shown := newTokenView(s, t)
		if v.Next == nil || shown.Planned.At.Before(v.Next.At) {
			v.Next = &shown.Planned
		}
		v.Tokens = append(v.Tokens, shown)
	}
	for _, c := range s.Clients {
		v.Clients = append(v.Clients, newClientView(s.Now, c, triage.LevelOf(c.Name)))
	}
	for _, k := range s.Sinks {
		v.Sinks = append(v.Sinks, newSinkView(s.Now, k))
	}
	for _, stream := range s.Signals {
		v.Streams = append(v.Streams, newStreamView(s.Now, stream))
	}
	slices.SortStableFunc(v.Clients, func(a, b clientView) int { return a.Level.Compare(b.Level) })
	slices.SortStableFunc(v.Sinks, func(a, b sinkView) int { return a.State.Level().Compare(b.State.Level()) })
	return v
}

func newGroups(now time.Time, triage status.Triage) []group {
	groups := []group{
		{Level: status.Act, Title: "Needs a person"}, {Level: status.Soon, Title: "Needs a person soon"}, {Level: status.Wait, Title: "Waits"},
	}
	for i := range groups {
		for _, m := range triage.Of(groups[i].Level) {
			groups[i].Matters = append(groups[i].Matters, newMatterView(now, m))
		}
	}
	return slices.DeleteFunc(groups, func(g group) bool { return len(g.Matters) == 0 })
}

// mostLinks is the maximum number of names listed for a problem.
const mostLinks = 8

func newMatterView(now time.Time, m status.Matter) matterView {
	v := matterView{
		Matter: m, Seen: past(now, m.At), Ends: ahead(now, m.Expiry), Retry: pending(now, m.Next),
	}
	v.About, v.More = links(m.Names, string(m.Subject))
	v.Files, v.MoreFiles = links(m.Sinks, string(status.AboutSink))
	if m.Subject == status.AboutToken {
		v.Owner = &link{m.Client, string(status.AboutClient)}
	}
	if m.Doc != "" {
		v.Manual = status.DocURL(m.Doc)
	}
	return v
}

func links(names []string, kind string) (shown []link, more int) {
	if len(names) > mostLinks {
		names, more = names[:mostLinks-1], len(names)-mostLinks+1
	}
	for _, name := range names {
		shown = append(shown, link{name, kind})
	}
	return shown, more
}

func newClientView(now time.Time, c status.Client, level status.Level) clientView {
	v := clientView{
		Client:  c,
		Level:   level,
		Blocked: pending(now, c.Gate.BlockedUntil),
		Retry:   pending(now, c.Gate.RetryAt),
	}
	for _, credential := range c.Credentials {
		v.Credentials = append(v.Credentials, credentialView{credential, ahead(now, credential.NotAfter)})
	}
	return v
}

func newSinkView(now time.Time, k status.Sink) sinkView {
	return sinkView{
		Sink:    k,
		State:   k.State(),
		Expired: past(now, k.ExpiredAt),
		Written: past(now, k.LastSuccess),
		Failed:  past(now, k.LastErrorAt),
		Retry:   pending(now, k.RetryAt),
	}
}

func newTokenView(s status.Status, t status.Ranked) tokenView {
	return tokenView{
		Token:    t.Token,
		Level:    t.Level,
		Phase:    t.Phase(),
		Passed:   t.Share(s.Now),
		Refresh:  t.Share(t.NextAt),
		Kind:     t.Next,
		Planned:  until(s.Now, t.NextAt),
		Acquired: past(s.Now, t.AcquiredAt),
		Expires:  ahead(s.Now, t.Expiry),
		Failed:   past(s.Now, t.LastErrorAt),
		Rejected: past(s.Now, t.LastChallengeAt),
	}
}

// nearly is the largest duration that rounds to zero seconds.
const nearly = time.Second / 2

// left returns the time until an instant in whole milliseconds, as in the page, so that its script rounds like the
// server when it rewrites the text.
func left(now, at time.Time) time.Duration {
	return time.Duration(at.UnixMilli()-now.UnixMilli()) * time.Millisecond
}

// until describes a future instant, and says "now" once it has come.
func until(now, at time.Time) moment {
	if left(now, at) < nearly {
		return moment{At: at, Words: "now"}
	}
	return moment{At: at, Words: "in " + status.Span(left(now, at))}
}

func since(now, at time.Time) moment {
	return moment{At: at, Words: status.Span(-left(now, at)) + " ago", Over: true}
}

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

// pending returns nil if there is nothing left to wait for.
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
