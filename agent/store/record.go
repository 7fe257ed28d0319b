package store

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/token"
)

// Record is the saved state of one token.
type Record struct {
	Binding    Binding     // what it belongs to
	Token      token.Token // zero if there is none; its name and client_id are not stored twice
	AcquiredAt time.Time
	Attempts   policy.Attempts
	Gate       policy.Gate // of the client, as the token last saw it
	Challenge  Challenge
	Credential Credential
	History    History
	SavedAt    time.Time // by the clock of the process that saved it
}

// Binding identifies what a record belongs to. A saved token is used only if all of it is the same; the gate and the
// token's retry state only need the same client at the same server.
type Binding struct {
	ClientID string
	Server   string // the token endpoint, in the form of the gates' keys
	Issuer   string // whose metadata named the server; "" if the server was configured
	Request  string // what is requested: see RequestHash
	Provider string // the credential provider
}

// GateKey identifies a gate as the server sees it.
type GateKey struct{ ClientID, Server string }

// Waits is what all commands on a host know of what servers asked for. It may block as long as its file
// system does.
type Waits interface {
	Until(server, clientID string) (time.Time, error)
	Extend(server, clientID string, until time.Time) error
	// Turn takes the client's turn to send a request after a wait. taken is false while another command
	// has it; else done gives it back.
	Turn(server, clientID string) (done func(), taken bool)
}

// Challenge is the state of the token's claims challenges. Claims are JSON objects.
type Challenge struct {
	Claims   string // claims that are not answered yet; "" for none
	Rejected string // SHA-256 of the rejected token, in hex; "" if there was none
	Answered string // claims that the token was issued with; "" for none
}

// Credential is the saved state of the client's credentials.
type Credential struct {
	Files    string // a fingerprint of the first one's files, from stat
	Identity string // of the first one; public, such as a thumbprint
	Choice   policy.Choice
}

// History is a token's past, only for display. No decision depends on it.
type History struct {
	Requests   int // sent, by all processes that kept the record
	Failure    Failure
	AcquiredAt time.Time // of the last token, if it has expired and is not kept; as is Expiry
	Expiry     time.Time
}

// Failure is why the last request failed; zero if it succeeded. It contains nothing secret.
type Failure struct {
	At      time.Time
	Class   policy.Class
	Message string
	Advice  string
}

// GateKey returns the gate that a record's token passes.
func (b Binding) GateKey() GateKey { return GateKey{b.ClientID, b.Server} }

// Differs describes, for people, how a binding differs from the wanted one; "" if it does not.
func (b Binding) Differs(wanted Binding) string {
	switch {
	case b.ClientID != wanted.ClientID:
		return "another client_id"
	case b.Server != wanted.Server && (b.Issuer == "" || b.Issuer != wanted.Issuer):
		return "another authorization server"
	case b.Request != wanted.Request:
		return "another grant, subject, scope, audience or parameter"
	case b.Provider != wanted.Provider:
		return "another credential provider"
	}
	return ""
}

// RequestHash identifies the content of a token request. The order of its scopes does not matter.
func RequestHash(form url.Values) string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(form)) {
		for _, value := range form[name] {
			if name == "scope" {
				value = strings.Join(slices.Sorted(slices.Values(strings.Fields(value))), " ")
			}
			// Escaped, so that no value can be taken for a name and a value.
			sum.Write([]byte(url.QueryEscape(name) + "=" + url.QueryEscape(value) + "&"))
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// restored adapts the record to this process: no instant is further ahead than allowed.
func (r Record) restored(now time.Time) Record {
	r.Gate = r.Gate.Restored(r.SavedAt, now)
	r.Attempts = r.Attempts.Restored(r.SavedAt, now)
	r.AcquiredAt = policy.Restored(r.AcquiredAt, r.SavedAt, now, 0)
	r.Token.Expiry = policy.Restored(r.Token.Expiry, r.SavedAt, now, policy.MaxLife)
	r.Token.RefreshOn = policy.Restored(r.Token.RefreshOn, r.SavedAt, now, policy.MaxLife)
	r.History.Failure.At = policy.Restored(r.History.Failure.At, r.SavedAt, now, 0)
	r.History.AcquiredAt = policy.Restored(r.History.AcquiredAt, r.SavedAt, now, 0)
	r.History.Expiry = policy.Restored(r.History.Expiry, r.SavedAt, now, 0)
	if r.Token.RefreshOn.After(r.Token.Expiry) {
		r.Token.RefreshOn = r.Token.Expiry
	}
	return r
}

// Encode returns a token's record as bytes, for a program's own storage. They contain the access token in plain text,
// so the program has to encrypt them. The record's SavedAt is now.
func Encode(token string, r Record) ([]byte, error) {
	r.SavedAt = time.Now()
	return encode(token, r)
}

// Decode is the reverse of [Encode]: the record as of now, whenever it was saved. It refuses invalid records, and the
// record of another token.
func Decode(token string, data []byte) (Record, error) {
	r, err := decode(token, data)
	if err != nil {
		return Record{}, err
	}
	return r.restored(time.Now()), nil
}
