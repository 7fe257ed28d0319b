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

// Record is what is remembered of one token.
type Record struct {
	Binding    Binding     // what it belongs to
	Token      token.Token // zero while there is none; its name and client_id are not stored twice
	AcquiredAt time.Time
	Attempts   policy.Attempts
	Gate       policy.Gate // of the client, as the token last saw it
	Challenge  Challenge
	Credential Credential
	History    History
	SavedAt    time.Time // by the clock of the process that saved it
}

// Binding says whose a record is. A token is of use only where all of it is the same; the gate, and
// what the token owes it, wherever the client at its server is.
type Binding struct {
	ClientID string
	Server   string // where tokens come from, in the form that gates are keyed by
	Issuer   string // whose metadata named the server; "" where it was configured itself
	Request  string // what is asked for: see RequestHash
	Provider string // the credential provider
}

// GateKey is what a gate is to the server.
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

// Challenge is what claims challenges of the token have come to. Claims are JSON objects.
type Challenge struct {
	Claims   string // what is asked for and not answered yet; "" for nothing
	Rejected string // SHA-256 of the token that was rejected, in hex; "" where there was none
	Answered string // what was asked for before, and the token was issued with; "" for nothing
}

// Credential is what was known of the client's credentials.
type Credential struct {
	Files    string // a fingerprint of the first one's files, from stat
	Identity string // of the first one; public, such as a thumbprint
	Choice   policy.Choice
}

// History is what people are told of a token's past. Nothing is decided by it.
type History struct {
	Requests   int // sent, by all processes that kept the record
	Failure    Failure
	AcquiredAt time.Time // of the last token, where it has expired and is not kept; as is Expiry
	Expiry     time.Time
}

// Failure is why the last request brought no token; zero where it did. It holds nothing secret.
type Failure struct {
	At      time.Time
	Class   policy.Class
	Message string
	Advice  string
}

// GateKey returns the gate that a record's token passes.
func (b Binding) GateKey() GateKey { return GateKey{b.ClientID, b.Server} }

// Differs says, in a person's words, in what a binding is not the wanted one; "" if it is.
func (b Binding) Differs(wanted Binding) string {
	switch {
	case b.ClientID != wanted.ClientID:
		return "another client_id"
	case b.Server != wanted.Server && (b.Issuer == "" || b.Issuer != wanted.Issuer):
		return "another authorization server"
	case b.Request != wanted.Request:
		return "another scope, audience or parameter"
	case b.Provider != wanted.Provider:
		return "another credential provider"
	}
	return ""
}

// RequestHash identifies what a token request asks for. The order of its scopes does not matter.
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

// restored carries the record over to this process: no instant lies further ahead than it may.
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

// Encode returns a token's record as bytes, for a memory of a program's own. They hold the access token
// in the clear, so that they are to be encrypted where they are kept. The record's SavedAt is now.
func Encode(token string, r Record) ([]byte, error) {
	r.SavedAt = time.Now()
	return encode(token, r)
}

// Decode is the reverse of [Encode]: the record as of now, whenever it was saved. It refuses what no
// credagent wrote, and the record of another token.
func Decode(token string, data []byte) (Record, error) {
	r, err := decode(token, data)
	if err != nil {
		return Record{}, err
	}
	return r.restored(time.Now()), nil
}
