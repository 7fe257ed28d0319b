package config

import (
	"slices"
	"strings"
	"time"
)

// The events of Shared Signals that credagent acts upon, by the last part of their URIs (CAEP 1.0, RISC 1.0).
const (
	EventSessionRevoked    = "session-revoked"
	EventTokenClaimsChange = "token-claims-change"
	EventCredentialChange  = "credential-change"
	EventAccountDisabled   = "account-disabled"
	EventAccountPurged     = "account-purged"
)

// SignalEvents are the events that a stream may ask for, which are all that credagent acts upon.
func SignalEvents() []string {
	return []string{EventAccountDisabled, EventAccountPurged, EventCredentialChange, EventSessionRevoked, EventTokenClaimsChange}
}

// Stream is a stream of Shared Signals that credagent receives by polling (OpenID SSF 1.0, RFC 8936).
type Stream struct {
	Name     string
	Issuer   string        // the transmitter's, as its metadata names it
	Token    string        // the token that authorizes the requests
	Audience string        // that the transmitter is to put into the stream; "" for whatever it names
	Subjects []Subject     // what means one of our clients
	Interval time.Duration // between polls; 0 for long polling
	Events   []string      // what to ask for, sorted
}

// Subject is how a transmitter names a client (RFC 9493). Either Opaque is set, or Issuer and Sub are.
type Subject struct {
	Client string
	Issuer string // iss and sub of the format iss_sub
	Sub    string
	Opaque string // id of the format opaque
}

func (v *validator) streams() []Stream {
	var streams []Stream
	for _, name := range sortedKeys(v.raw.Signals) {
		path := join("signals", name)
		v.checkName(path, name)
		if v.mapped(path) {
			streams = append(streams, v.stream(path, name, v.raw.Signals[name]))
		}
	}
	return streams
}

func (v *validator) stream(path, name string, raw rawStream) Stream {
	s := Stream{
		Name:     name,
		Token:    v.tokenName(path, "token", raw.Token),
		Interval: v.duration(join(path, "interval"), raw.Interval, limits{10 * time.Second, 24 * time.Hour, 0}),
		Events:   v.events(join(path, "events"), raw.Events),
	}
	s.Issuer = v.transmitter(path, raw)
	s.Audience, _ = v.optional(join(path, "audience"), raw.Audience)
	if len(raw.Subjects) == 0 {
		v.missing(path, "subjects")
	}
	seen := map[Subject]int{}
	for i, r := range raw.Subjects {
		at := index(join(path, "subjects"), i)
		subject := v.subject(at, r)
		named := subject
		named.Client = ""
		if first, twice := seen[named]; twice && named != (Subject{}) {
			v.problem(at, "the same subject as %s", v.place(index(join(path, "subjects"), first)))
		} else if !twice {
			seen[named] = i
		}
		s.Subjects = append(s.Subjects, subject)
	}
	return s
}

// transmitter checks an issuer (OpenID SSF 1.0, 7.1): an https URL without query and fragment.
func (v *validator) transmitter(path string, raw rawStream) string {
	at := join(path, "issuer")
	if _, ok := v.required(path, "issuer", raw.Issuer); !ok {
		return ""
	}
	u := v.endpoint(at, raw.Issuer, v.insecureToken(raw.Token.value))
	if u == nil {
		return ""
	}
	if u.RawQuery != "" || u.ForceQuery {
		v.problem(at, "an issuer has no query")
	}
	if strings.Contains(u.Path, "/.well-known/") {
		v.hinted(at, "leave off what begins with /.well-known/; it is found from the issuer", "the address of the metadata, not the issuer")
	}
	return raw.Issuer.value
}

// insecureToken reports whether a token's client allows plain http.
func (v *validator) insecureToken(token string) bool {
	return v.raw.Clients[v.raw.Tokens[token].Client.value].AllowInsecureHTTP
}

func (v *validator) subject(path string, raw rawSubject) Subject {
	var s Subject
	if name, ok := v.required(path, "client", raw.Client); ok && v.known(join(path, "client"), "client", raw.Client, sortedKeys(v.raw.Clients)) {
		s.Client = name
	}
	if (raw.IssSub != nil) == raw.Opaque.given() {
		v.problem(path, "want exactly one of iss_sub and opaque")
		return s
	}
	if raw.IssSub != nil {
		s.Issuer, _ = v.required(join(path, "iss_sub"), "iss", raw.IssSub.Issuer)
		s.Sub, _ = v.required(join(path, "iss_sub"), "sub", raw.IssSub.Sub)
		return s
	}
	s.Opaque, _ = v.optional(join(path, "opaque"), raw.Opaque)
	return s
}

func (v *validator) events(path string, raw []text) []string {
	if raw == nil {
		return SignalEvents()
	}
	if len(raw) == 0 {
		v.problem(path, "empty: a stream without events says nothing")
	}
	var events []string
	for i, t := range raw {
		if !t.ok() {
			continue
		}
		if !slices.Contains(SignalEvents(), t.value) {
			v.hinted(index(path, i), didYouMean(t.value, SignalEvents()), "unknown event %v, want some of %s", t, strings.Join(SignalEvents(), ", "))
			continue
		}
		events = append(events, t.value)
	}
	slices.Sort(events)
	return slices.Compact(events)
}
