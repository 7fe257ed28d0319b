package status

import (
	"cmp"
	"fmt"
	"time"
)

// explained returns a token with the cause for its wait. A token that waits at a failing gate was often not requested
// itself: then the cause is the gate's, from another token or client. A refusal of the token itself is kept.
func (s Status) explained(t Token, g Gate) (why Token, failedClient string) {
	own := t.LastError != "" && lasting(t.LastOutcome) && !(t.LastOutcome == "credential" && g.LastOutcome == "credential")
	if g.LastError == "" || own || !s.waitsAtGate(t, g) {
		return t, ""
	}
	t.LastOutcome, t.LastError, t.LastErrorAt, t.Advice = g.LastOutcome, g.LastError, g.LastErrorAt, g.Advice
	t.ConsecutiveFailures = max(t.ConsecutiveFailures, g.Failures)
	if g.FailedClient != "" {
		t.LastError = fmt.Sprintf("client %q, which is the same client to the server: %s", g.FailedClient, g.LastError)
		t.Advice = fmt.Sprintf("see to client %q: %s", g.FailedClient, cmp.Or(g.Advice, "its requests fail"))
	}
	return t, g.FailedClient
}

// waitsAtGate reports whether a token's next request is made when the gate opens, or is under way.
func (s Status) waitsAtGate(t Token, g Gate) bool {
	if t.RefreshAt == nil || !t.RefreshAt.After(s.Now) {
		return true
	}
	for _, opens := range []*time.Time{g.BlockedUntil, g.RetryAt} {
		if opens != nil && !t.RefreshAt.After(*opens) {
			return true
		}
	}
	return false
}
