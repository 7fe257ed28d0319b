package doctor

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/credagent/credagent/agent/status"
)

// agentUser returns this process's user. For root, which checks another user's agent, it returns the owner of the
// running agent's socket, else the owner of what only the agent writes, if that is one user.
func (e *exam) agentUser() (uid int, why string) {
	uid = os.Geteuid()
	if uid != 0 {
		return uid, "as whom this runs"
	}
	if s := e.Config.Socket; s != nil && e.running != nil {
		if owner, ok := ownerOf(s.Path); ok {
			return owner.uid, "whose the running agent's socket is"
		}
	}
	dirs := e.writtenDirs()
	if e.Config.State != nil && e.Config.State.Dir != "" {
		dirs = append(dirs, e.Config.State.Dir)
	}
	var owners []int
	for _, dir := range dirs {
		if owner, ok := ownerOf(dir); ok && owner.uid != 0 {
			owners = appendNew(owners, owner.uid)
		}
	}
	if len(owners) == 1 {
		return owners[0], "whose the directories are that the agent writes"
	}
	return uid, "as whom this runs"
}

// identity reports the user whose access is checked, and what cannot be checked as another user.
func (e *exam) identity(context.Context) []Finding {
	name := userName(e.uid)
	if id := strconv.Itoa(e.uid); name != "#"+id {
		name += " (uid " + id + ")"
	}
	found := []Finding{{Level: Note, What: fmt.Sprintf("judged for the user %s, %s", name, e.judged)}}
	if os.Geteuid() != 0 {
		return found
	}
	f := Finding{
		Level: Note, What: "this was run as root, who may read and write everything",
		Why: "what only the agent's user may not do is not seen",
	}
	if e.uid != 0 {
		f.Fix = "run it as the agent's user too: setpriv --reuid " + userName(e.uid) + " --init-groups credagent doctor"
	} else {
		f.Fix = "run it as the agent's user too, if that is not root"
	}
	return append(found, f)
}

// agent reports what a running agent's status shows, in its order.
func (e *exam) agent(context.Context) []Finding {
	if e.running == nil {
		return []Finding{{Level: Note, What: e.silence.Error()}}
	}
	s := e.running
	var all []Finding
	if s.Source != "" && !sameSource(s.Source, e.Config.Source) { // its problems are not this configuration's
		return []Finding{{
			Level: Note, What: "the running agent has another configuration, " + s.Source,
			Why: "what is found here is about " + e.Config.Source,
		}}
	}
	triage := s.Triage()
	for _, m := range triage.Matters {
		if m.Level != status.Soon { // credential expiry and clocks have their own checks
			all = append(all, ofMatter(s, m))
		}
	}
	if !s.Ready && len(triage.Matters) == 0 {
		all = append(all, Finding{
			Level: Problem, What: "the running agent is not ready: " + strings.Join(s.NotReady, ", "),
			Why: "what waits for it does not start", Fix: "credagent status",
		})
	}
	return all
}

// sameSource reports whether two configurations are the same file, however their paths are spelled.
func sameSource(a, b string) bool {
	if a == b {
		return true
	}
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// ofMatter turns a problem of the status into a finding: a problem if a person has to act, a warning if waiting may
// help.
func ofMatter(s *status.Status, m status.Matter) Finding {
	fix := strings.TrimSuffix(m.Step, ": credagent doctor") // the command that is running
	f := Finding{Level: Warning, What: "the running agent: " + m.What, Fix: fix, Why: "the token is not replaced before it expires"}
	if m.Level == status.Act {
		f.Level = Problem
	}
	if m.Cause != "" {
		f.What += ": " + m.Cause
	}
	for _, name := range m.Names {
		if about := string(m.Subject) + " " + quote(name); m.Subject != status.AboutConfiguration {
			f.About = append(f.About, about)
		}
	}
	switch expired := m.Expiry != nil && !m.Expiry.After(s.Now); {
	case m.Subject == status.AboutConfiguration:
		f.Why = "it goes on with the old one, and will not start with this one"
	case m.Subject == status.AboutSink:
		f.Why = "the sink's readers go on with an old token"
	case m.Subject == status.AboutClient:
		f.Why = "the client's requests will be refused, or go out late"
	case expired:
		f.Why = "the token expired " + status.Span(s.Now.Sub(*m.Expiry)) + " ago, and there is no other"
	case m.Expiry == nil:
		f.Why = "there is no token yet"
	}
	if len(m.Sinks) > 0 {
		f.Why += "; no valid token in " + strings.Join(slices.Clone(m.Sinks), ", ")
	}
	return f
}
