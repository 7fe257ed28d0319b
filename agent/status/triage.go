package status

import (
	"cmp"
	"slices"
	"time"
)

// Level is the urgency of a problem.
type Level string

// The levels, the worst first.
const (
	Act  Level = "act"  // a person has to do something now: waiting does not help
	Soon Level = "soon" // a person has to do something, but nothing fails yet
	Wait Level = "wait" // waiting is enough
	Well Level = "well" // nothing to do
)

// Compare orders levels, the worst first.
func (l Level) Compare(other Level) int {
	order := []Level{Act, Soon, Wait, Well}
	return cmp.Compare(slices.Index(order, l), slices.Index(order, other))
}

// Subject is the kind of object that a problem is about.
type Subject string

// The subjects.
const (
	AboutToken         Subject = "token"
	AboutClient        Subject = "client"
	AboutSink          Subject = "sink"
	AboutConfiguration Subject = "configuration"
)

// Matter is one problem. Tokens of a client that fail for the same cause are one problem.
type Matter struct {
	Level   Level
	Subject Subject
	Names   []string // what it is about, at least one name; for sinks their paths
	Client  string   // of tokens
	What    string   // the state, in a few words
	Cause   string   // the reason, if known
	Step    string   // what to do
	Doc     string   // the anchor of the heading in docs/operations.md that explains more
	Sinks   []string // the files that have no valid token because of it

	At       *time.Time // when the cause was last seen
	Expiry   *time.Time // of the token that expires, or expired, first; or of the credential
	Next     *time.Time // when it is tried again
	Failures int        // in a row, of the token that failed most often

	rank rank
}

// DocURL returns the URL of the document about a problem.
func DocURL(anchor string) string {
	return "https://github.com/credagent/credagent/blob/main/docs/operations.md#" + anchor
}

// rank orders problems, the worst first.
type rank int

const (
	refusedDown     rank = iota // refused, and there is no valid token
	unreachableDown             // no answer, and there is no longer a valid token
	sinkFailing
	refused // but the current token is still valid
	credentialUnusable
	credentialEnded
	notReloaded
	programNotTold
	credentialEnds
	clocksDiffer
	throttledDown
	startingDown
	throttled
	retrying
	sinkBehind
	challenged
	gateClosed
	well
)

// Ranked is a token with its level and its next request.
type Ranked struct {
	Token
	Level  Level
	Next   Next
	NextAt time.Time // when that request is planned
}

// Triage is a status in the order that a person on call needs.
type Triage struct {
	Matters []Matter // the worst first
	Tokens  []Ranked // all of them, the worst first, else in the order of the status

	levels map[string]Level // the worst level by client name; absent if all is well
}

// Of returns the problems of a level.
func (t Triage) Of(level Level) []Matter {
	var all []Matter
	for _, m := range t.Matters {
		if m.Level == level {
			all = append(all, m)
		}
	}
	return all
}

// LevelOf returns the worst level of a client's problems.
func (t Triage) LevelOf(client string) Level {
	if level, found := t.levels[client]; found {
		return level
	}
	return Well
}

// Tally returns how many tokens are of a level.
func (t Triage) Tally(level Level) int {
	n := 0
	for _, token := range t.Tokens {
		if token.Level == level {
			n++
		}
	}
	return n
}

// Triage sorts the snapshot by what needs a person. It depends only on the snapshot, and takes linear time, because a
// page may call it each second.
func (s Status) Triage() Triage {
	tokens, all := s.tokenMatters()
	said := map[string]told{}
	for _, m := range all {
		is := said[m.Client]
		is.refused = is.refused || m.rank == refusedDown || m.rank == refused
		is.waits = is.waits || m.Level == Act || m.rank == throttled || m.rank == throttledDown
		said[m.Client] = is
	}
	for _, c := range s.Clients {
		all = append(all, s.clientMatters(c, said[c.Name])...)
	}
	for _, k := range s.Sinks {
		all = append(all, s.sinkMatters(k)...)
	}
	all = append(all, s.reloadMatter()...)
	slices.SortStableFunc(all, func(a, b Matter) int { return cmp.Compare(a.rank, b.rank) })
	triage := Triage{Matters: all, Tokens: tokens, levels: map[string]Level{}}
	for _, m := range all {
		if _, found := triage.levels[m.Client]; !found {
			triage.levels[m.Client] = m.Level
		}
	}
	return triage
}

// tokenMatters returns the tokens, the worst first, and their problems.
func (s Status) tokenMatters() ([]Ranked, []Matter) {
	type ranked struct {
		Ranked
		rank
	}
	tokens := make([]ranked, 0, len(s.Tokens))
	var joined joined
	affected, gates := s.sinksByToken(), s.gates()
	for _, t := range s.Tokens {
		gate := gates[t.Client]
		t, failedClient := s.explained(t, gate)
		next, at := s.nextOf(t, gate)
		m, found := s.tokenMatter(t, next, at)
		tokens = append(tokens, ranked{Ranked{t, m.Level, next, at}, m.rank})
		if !found {
			continue
		}
		if failedClient != "" {
			m.What = "held up by another client"
		}
		if !t.Valid {
			m.Sinks = affected[t.Name]
		}
		joined.add(m)
	}
	slices.SortStableFunc(tokens, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	all := make([]Ranked, 0, len(tokens))
	for _, t := range tokens {
		all = append(all, t.Ranked)
	}
	return all, joined.matters()
}

// joined collects tokens' problems, joining those of the same client and cause.
type joined struct {
	all   []*joinedMatter
	alike map[likeness]*joinedMatter
}

// likeness is what joined problems have in common.
type likeness struct {
	rank                rank
	client, cause, what string
}

type joinedMatter struct {
	Matter
	sinks map[string]bool // the paths that it already names
}

// add adds a token's problem, joining it to one of the same client and cause.
func (j *joined) add(m Matter) {
	like := likeness{m.rank, m.Client, m.Cause, m.What}
	same := j.alike[like]
	if same == nil || m.Cause == "" {
		same = &joinedMatter{Matter: m, sinks: map[string]bool{}}
		same.Sinks = nil
		j.all = append(j.all, same)
		if j.alike == nil {
			j.alike = map[likeness]*joinedMatter{}
		}
		j.alike[like] = same
	} else {
		same.Names = append(same.Names, m.Names...)
	}
	same.Failures = max(same.Failures, m.Failures)
	same.Expiry, same.Next = earlier(same.Expiry, m.Expiry), earlier(same.Next, m.Next)
	if same.At == nil || m.At != nil && m.At.After(*same.At) {
		same.At = m.At
	}
	for _, path := range m.Sinks {
		if !same.sinks[path] {
			same.sinks[path] = true
			same.Sinks = append(same.Sinks, path)
		}
	}
}

func (j *joined) matters() []Matter {
	var all []Matter
	for _, m := range j.all {
		all = append(all, m.Matter)
	}
	return all
}

func earlier(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}

func (s Status) sinksByToken() map[string][]string {
	all := map[string][]string{}
	for _, k := range s.Sinks {
		for _, name := range k.Tokens {
			all[name] = append(all[name], k.Path)
		}
	}
	return all
}

// lasting reports whether waiting does not help with an outcome.
func lasting(outcome string) bool {
	return outcome == "credential" || outcome == "configuration" || outcome == "policy"
}

// startingFailures is how many failures in a row still count as a slow start before the first token.
const startingFailures = 3

func rankOf(t Token, next Next) rank {
	failing := t.LastError != "" || t.ConsecutiveFailures > 0
	wait := next == NextThrottled || failing && t.LastOutcome == "throttled"
	switch {
	case failing && lasting(t.LastOutcome) && !t.Valid:
		return refusedDown
	case failing && lasting(t.LastOutcome):
		return refused
	case wait && !t.Valid:
		return throttledDown
	case wait:
		return throttled
	case failing && !t.Valid && (t.Phase() == PhaseExpired || t.ConsecutiveFailures >= startingFailures):
		return unreachableDown
	case !t.Valid:
		return startingDown
	case failing:
		return retrying
	case t.ChallengePending:
		return challenged
	}
	return well
}

// tokenMatter returns a token's problem, if any.
func (s Status) tokenMatter(t Token, next Next, at time.Time) (m Matter, found bool) {
	m = Matter{
		Level: Wait, Subject: AboutToken, Names: []string{t.Name}, Client: t.Client, Cause: t.LastError, Step: t.Advice,
		At: t.LastErrorAt, Expiry: t.Expiry, Next: &at, Failures: t.ConsecutiveFailures, rank: rankOf(t, next),
	}
	suggest := func(step string) { m.Step = cmp.Or(m.Step, step) }
	switch m.rank {
	case refusedDown, refused:
		m.Level, m.What, m.Doc = Act, "refused by the server", "the-server-refuses"
		suggest("check the client's credential and the token's configuration against what is registered at the server")
	case unreachableDown:
		m.Level, m.What, m.Doc = Act, "token requests fail", "the-server-does-not-answer"
		suggest("check the server, and the way to it: credagent doctor")
	case throttledDown, throttled:
		m.What, m.Doc = "held back by the server", "the-server-asks-to-wait"
		if next != NextThrottled { // the remaining wait is not the server's
			suggest("wait: it is tried again by itself")
		}
		suggest("wait: nothing may be sent before the server's Retry-After is over")
	case startingDown:
		m.What, m.Doc = "being acquired", "the-server-does-not-answer"
		suggest("wait for the first answer")
		if t.Phase() == PhaseExpired {
			m.What = "being acquired again"
		}
	case retrying:
		m.What, m.Doc = "not refreshed yet", "the-server-does-not-answer"
		suggest("wait: it is tried again, and the token that there is serves until it expires")
	case challenged:
		m.What, m.Step = "answering a claims challenge", "wait for the new token"
	default:
		m.Level = Well
		return m, false
	}
	return m, true
}

// told records what the problems of a client's tokens already show about the client.
type told struct {
	refused bool // that it is refused
	waits   bool // that requests are held back, or a person has to act
}

// clientMatters returns a client's problems, without those that its tokens' problems already show. A later outage
// does not hide a refusal.
func (s Status) clientMatters(c Client, told told) []Matter {
	var all []Matter
	add := func(level Level, rank rank, what, cause, step, doc string, end *time.Time) {
		all = append(all, Matter{
			Level: level, Subject: AboutClient, Names: []string{c.Name}, Client: c.Name, What: what, Cause: cause,
			Step: step, Doc: doc, Expiry: end, rank: rank,
		})
	}
	for _, credential := range c.Credentials {
		what := credential.Name + " credential "
		switch {
		case credential.Problem != "" && !(credential.InUse && told.refused):
			add(Act, credentialUnusable, what+"cannot be used", credential.Problem, "replace it: a changed file is noticed by itself", "a-credential-ends-or-cannot-be-used", nil)
		case credential.Problem != "":
		case credential.NotAfter == nil:
		case !credential.NotAfter.After(s.Now):
			add(Act, credentialEnded, what+"has expired", "", "replace it: a changed file is noticed by itself", "a-credential-ends-or-cannot-be-used", credential.NotAfter)
		case credential.EndsSoon:
			add(Soon, credentialEnds, what+"ends soon", "", "replace it in time: a changed file is noticed by itself", "a-credential-ends-or-cannot-be-used", credential.NotAfter)
		}
	}
	if clocks := c.Clocks(); clocks != "" {
		add(Soon, clocksDiffer, "clocks differ", clocks, "set this host's clock: timedatectl set-ntp true", "the-clocks-differ", nil)
	}
	if opens := c.Gate.BlockedUntil; opens != nil && opens.After(s.Now) && !told.waits {
		add(Wait, gateClosed, "held back by the server", c.Gate.LastError, "wait: nothing may be sent before the server's Retry-After is over", "the-server-asks-to-wait", nil)
		all[len(all)-1].Next, all[len(all)-1].At = opens, c.Gate.LastErrorAt
	}
	return all
}

func (s Status) sinkMatters(k Sink) []Matter {
	m := Matter{Subject: AboutSink, Names: []string{k.Path}, Next: k.RetryAt}
	var all []Matter
	switch state := k.State(); {
	case k.LastError != "":
		m.Level, m.rank, m.What, m.Cause, m.At = Act, sinkFailing, "cannot be written", k.LastError, k.LastErrorAt
		m.Step, m.Doc = "check the directory's rights, its room and its file system: credagent doctor", "a-sink-cannot-be-written"
		all = append(all, m)
	case state == SinkBehind:
		m.Level, m.rank, m.What, m.Step, m.Doc = Wait, sinkBehind, "does not hold the newest token", "wait: it is being written", "a-sink-cannot-be-written"
		all = append(all, m)
	}
	if hook := k.OnChange; hook != nil && hook.LastError != "" {
		all = append(all, Matter{
			Level: Act, Subject: AboutSink, Names: []string{k.Path}, What: "a program was not told of its new token",
			Cause: hook.LastAction + ": " + hook.LastError, At: hook.LastRun, Step: "tell it by hand: it is not repeated before the next change",
			Doc: "a-program-was-not-told", rank: programNotTold,
		})
	}
	return all
}

func (s Status) reloadMatter() []Matter {
	if s.Reload == nil || s.Reload.Successful {
		return nil
	}
	return []Matter{{
		Level: Act, Subject: AboutConfiguration, Names: []string{s.Source}, What: "was not reloaded, the running one stays",
		Cause: s.Reload.Error, At: &s.Reload.At, Step: "correct the file, then reload: systemctl reload credagent",
		Doc: "the-configuration-was-not-reloaded", rank: notReloaded,
	}}
}

// SinkState is the state of a sink's file in one word.
type SinkState string

// The states of a sink.
const (
	SinkHolds   SinkState = "holds"   // the newest of every token, and they are valid
	SinkExpired SinkState = "expired" // a token that has expired, and there is no newer one
	SinkWaits   SinkState = "waits"   // for a token that was never acquired
	SinkFailing SinkState = "failing" // it cannot be written
	SinkBehind  SinkState = "behind"  // it lacks a token that exists
)

// Level returns the urgency of the state.
func (s SinkState) Level() Level {
	switch s {
	case SinkFailing, SinkExpired:
		return Act
	case SinkWaits, SinkBehind:
		return Wait
	}
	return Well
}

// State returns the state of the sink's file.
func (k Sink) State() SinkState {
	switch {
	case k.LastError != "":
		return SinkFailing
	case k.ExpiredAt != nil:
		return SinkExpired
	case k.Holds:
		return SinkHolds
	case len(k.WaitsFor) > 0:
		return SinkWaits
	}
	return SinkBehind
}

// DescribeSinks fills in what follows from the tokens for the sinks' files.
func (s *Status) DescribeSinks() {
	tokens := make(map[string]Token, len(s.Tokens))
	for _, t := range s.Tokens {
		tokens[t.Name] = t
	}
	for i := range s.Sinks {
		s.Sinks[i].describe(tokens)
	}
}

// describe fills in when the first of the sink's tokens without a successor expired, and which were never acquired.
func (k *Sink) describe(tokens map[string]Token) {
	k.ExpiredAt, k.WaitsFor = nil, nil
	for _, name := range k.Tokens {
		switch t := tokens[name]; t.Phase() {
		case PhaseExpired:
			k.ExpiredAt = earlier(k.ExpiredAt, t.Expiry)
		case PhaseNone:
			k.WaitsFor = append(k.WaitsFor, name)
		}
	}
}
