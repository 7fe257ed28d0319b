package signals

import (
	"encoding/json"
	"slices"

	"github.com/credagent/credagent/agent/config"
)

// identifier is what is read of a subject identifier (RFC 9493, 3).
type identifier struct {
	Format      string       `json:"format"`
	Issuer      string       `json:"iss"`
	Sub         string       `json:"sub"`
	ID          string       `json:"id"`
	Identifiers []identifier `json:"identifiers"` // of the format aliases
}

// whose is the members of a complex subject that may say who it is about. The others, such as a session or
// a device, only say which part of it.
var whose = [...]string{"user", "application"}

// maxMembers bounds the members of a complex subject and the aliases in one.
const maxMembers = 64

// subject is what a SET is about.
type subject struct {
	members map[string]identifier // of a complex one; a simple one is the member ""
}

// readSubject reads sub_id (OpenID SSF 1.0, 3). It reports false for what is no subject at all.
func readSubject(raw json.RawMessage) (subject, bool) {
	var simple identifier
	if json.Unmarshal(raw, &simple) != nil || simple.Format == "" {
		return subject{}, false
	}
	if simple.Format != "complex" {
		return subject{map[string]identifier{"": simple}}, true
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || len(members) > maxMembers {
		return subject{}, false
	}
	delete(members, "format")
	s := subject{map[string]identifier{}}
	for name, raw := range members {
		var member identifier
		if json.Unmarshal(raw, &member) != nil {
			member = identifier{} // of a kind that matches nothing
		}
		s.members[name] = member
	}
	return s, len(s.members) > 0
}

// cannot returns a critical member that nobody here can process; "" for none. An event with one is to be
// discarded (OpenID SSF 1.0, 3.2).
func (s subject) cannot(critical []string, known []config.Subject) string {
	for name, member := range s.members {
		if name != "" && slices.Contains(critical, name) && !slices.Contains(whose[:], name) && len(member.meant(known)) == 0 {
			return name
		}
	}
	return ""
}

// clients returns those of our clients that a subject means, sorted. All members of a complex subject
// hold together, so one that says that somebody else is meant is decisive.
func (s subject) clients(known []config.Subject) []string {
	var meant []string
	for name, member := range s.members {
		of := member.meant(known)
		if len(of) == 0 && slices.Contains(whose[:], name) {
			return nil
		}
		meant = append(meant, of...)
	}
	slices.Sort(meant)
	return slices.Compact(meant)
}

// meant returns the clients that an identifier names, literally.
func (i identifier) meant(known []config.Subject) []string {
	var clients []string
	for _, k := range known {
		if i.is(k) || i.Format == "aliases" && len(i.Identifiers) <= maxMembers && slices.ContainsFunc(i.Identifiers, func(alias identifier) bool { return alias.is(k) }) {
			clients = append(clients, k.Client)
		}
	}
	return clients
}

func (i identifier) is(k config.Subject) bool {
	if k.Opaque != "" {
		return i.Format == "opaque" && i.ID == k.Opaque
	}
	return i.Format == "iss_sub" && i.Issuer == k.Issuer && i.Sub == k.Sub
}

// isStream reports whether a subject is a stream itself (OpenID SSF 1.0, 8.1.4).
func (s subject) isStream(id string) bool {
	i := s.members[""]
	return i.Format == "opaque" && i.ID == id
}

// wire is a subject as the transmitter is told of it.
func wire(s config.Subject) map[string]string {
	if s.Opaque != "" {
		return map[string]string{"format": "opaque", "id": s.Opaque}
	}
	return map[string]string{"format": "iss_sub", "iss": s.Issuer, "sub": s.Sub}
}
