package signals

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/credagent/credagent/agent/config"
)

// Where the types of events are (CAEP 1.0, 3; RISC 1.0, 2; OpenID SSF 1.0, 8.1).
const (
	caep = "https://schemas.openid.net/secevent/caep/event-type/"
	risc = "https://schemas.openid.net/secevent/risc/event-type/"
	ssf  = "https://schemas.openid.net/secevent/ssf/event-type/"

	eventVerification  = ssf + "verification"
	eventStreamUpdated = ssf + "stream-updated"
)

// uriOf is the type of an event that a configuration names.
func uriOf(event string) string {
	switch event {
	case config.EventAccountDisabled, config.EventAccountPurged:
		return risc + event
	}
	return caep + event
}

// The names of events that metrics have beside those of the configuration.
const (
	labelVerification  = "verification"
	labelStreamUpdated = "stream-updated"
	labelOther         = "other"
	labelInvalid       = "invalid"
)

// nameOf is what metrics and people call an event's type: what the transmitter makes up is one.
func nameOf(uri string) string {
	switch uri {
	case eventVerification:
		return labelVerification
	case eventStreamUpdated:
		return labelStreamUpdated
	}
	for _, event := range config.SignalEvents() {
		if uri == uriOf(event) {
			return event
		}
	}
	return labelOther
}

// payload is what is read of an event; all else is ignored, as it may be of a later version.
type payload struct {
	Timestamp   json.Number `json:"event_timestamp"` // CAEP 1.0, 2
	ReasonAdmin any         `json:"reason_admin"`
	State       string      `json:"state"`  // of a verification (OpenID SSF 1.0, 8.1.4)
	Status      string      `json:"status"` // of an updated stream (8.1.5)
	Reason      string      `json:"reason"` // of an updated stream, or of a disabled account (RISC 1.0, 2.3)

	CredentialType string `json:"credential_type"` // of a changed credential (CAEP 1.0, 3.3), as all that follows
	ChangeType     string `json:"change_type"`
	Serial         string `json:"x509_serial"`
}

// readPayload reads an event leniently: a member of another type is as good as none.
func readPayload(body json.RawMessage) payload {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return payload{}
	}
	text := func(name string) string {
		var value string
		_ = json.Unmarshal(members[name], &value) // "" where it is no text
		return value
	}
	p := payload{
		State: text("state"), Status: text("status"), Reason: text("reason"),
		CredentialType: text("credential_type"), ChangeType: text("change_type"), Serial: text("x509_serial"),
	}
	_ = json.Unmarshal(members["event_timestamp"], &p.Timestamp) // "" where it is no number
	return p
}

// instant reads seconds since 1970. Early drafts had milliseconds, which are no seconds of this millennium.
func instant(number json.Number) (time.Time, bool) {
	seconds, err := number.Float64()
	if err != nil || seconds <= 0 || seconds > 1e15 {
		return time.Time{}, false
	}
	if seconds > 1e11 {
		seconds /= 1000
	}
	whole := int64(seconds)
	return time.Unix(whole, int64((seconds-float64(whole))*1e9)), true
}

// revokesCertificate reports whether a changed credential is a certificate that is not to be used any more.
func (p payload) revokesCertificate() bool {
	return strings.EqualFold(p.CredentialType, "x509") && (p.ChangeType == "revoke" || p.ChangeType == "delete") && p.Serial != ""
}
