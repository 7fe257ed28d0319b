package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/printable"
	"github.com/credagent/credagent/internal/secret"
	"github.com/credagent/credagent/token"
)

// formVersion is raised when an older credagent would misunderstand a newer record. A field that it can ignore does
// not raise it.
const formVersion = 1

// form is the record that is encrypted: JSON, with instants of the wall clock. It contains the access token in plain
// text, so it does not outlive the encryption.
type form struct {
	Version    int            `json:"version"`
	Token      string         `json:"token"` // the name, so that one token's file is not mistaken for another's
	SavedAt    time.Time      `json:"saved_at"`
	Binding    bindingForm    `json:"binding"`
	Grant      *grantForm     `json:"grant,omitempty"`
	Gate       gateForm       `json:"gate"`
	Attempts   attemptsForm   `json:"attempts"`
	Challenge  challengeForm  `json:"challenge,omitzero"`
	Credential credentialForm `json:"credential"`
	History    historyForm    `json:"history,omitzero"`
}

type bindingForm struct {
	ClientID string `json:"client_id"`
	Server   string `json:"server"`
	Issuer   string `json:"issuer,omitempty"`
	Request  string `json:"request"`
	Provider string `json:"provider"`
}

type grantForm struct {
	AccessToken string    `json:"access_token"`
	TokenType   string    `json:"token_type"`
	Scope       string    `json:"scope,omitempty"`
	Expiry      time.Time `json:"expiry"`
	RefreshOn   time.Time `json:"refresh_on,omitzero"`
	AcquiredAt  time.Time `json:"acquired_at,omitzero"`
}

type gateForm struct {
	BlockedUntil time.Time   `json:"blocked_until,omitzero"`
	RetryAt      time.Time   `json:"retry_at,omitzero"`
	Failures     int         `json:"failures,omitempty"`
	Lasting      bool        `json:"lasting,omitempty"`
	FailingSince time.Time   `json:"failing_since,omitzero"`
	FailedAt     time.Time   `json:"failed_at,omitzero"`
	Recent       []time.Time `json:"recent,omitempty"`
}

type attemptsForm struct {
	Class        string      `json:"class"`
	RetryAt      time.Time   `json:"retry_at,omitzero"`
	Failures     int         `json:"failures,omitempty"`
	FailingSince time.Time   `json:"failing_since,omitzero"`
	FailedAt     time.Time   `json:"failed_at,omitzero"`
	Recent       []time.Time `json:"recent,omitempty"`
}

type challengeForm struct {
	Claims   string `json:"claims,omitempty"`
	Rejected string `json:"rejected_sha256,omitempty"`
	Answered string `json:"answered,omitempty"`
}

type credentialForm struct {
	Files    string `json:"files,omitempty"`
	Identity string `json:"identity,omitempty"`
	Fallback bool   `json:"fallback,omitempty"`
	Spent    bool   `json:"spent,omitempty"`
}

type historyForm struct {
	Requests   int         `json:"requests,omitempty"`
	Failure    failureForm `json:"failure,omitzero"`
	AcquiredAt time.Time   `json:"acquired_at,omitzero"`
	Expiry     time.Time   `json:"expiry,omitzero"`
}

type failureForm struct {
	At      time.Time `json:"at,omitzero"`
	Class   string    `json:"class"`
	Message string    `json:"message"`
	Advice  string    `json:"advice,omitempty"`
}

// seal encrypts a record.
func (s *Store) seal(name string, r Record) ([]byte, error) {
	plain, err := encode(name, r)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	sealed, err := s.key.encrypt(plain)
	if err == nil && len(sealed) > maxFile {
		err = fmt.Errorf("its %d bytes are more than a record may have", len(sealed))
	}
	return sealed, err
}

// unseal decrypts a record.
func (s *Store) unseal(name string, sealed []byte) (Record, error) {
	plain, err := s.key.decrypt(sealed)
	if err != nil {
		return Record{}, err
	}
	defer clear(plain)
	return decode(name, plain)
}

func encode(name string, r Record) ([]byte, error) {
	f := form{
		Version:   formVersion,
		Token:     name,
		SavedAt:   wall(r.SavedAt),
		Binding:   bindingForm(r.Binding),
		Challenge: challengeForm(r.Challenge),
		Credential: credentialForm{
			Files: r.Credential.Files, Identity: r.Credential.Identity,
			Fallback: r.Credential.Choice.Fallback, Spent: r.Credential.Choice.Spent,
		},
		Gate: gateForm{
			BlockedUntil: wall(r.Gate.BlockedUntil), RetryAt: wall(r.Gate.RetryAt),
			Failures: r.Gate.Failures, Lasting: r.Gate.Lasting,
			FailingSince: wall(r.Gate.FailingSince), FailedAt: wall(r.Gate.FailedAt), Recent: walls(r.Gate.Recent),
		},
		Attempts: attemptsForm{
			Class: r.Attempts.Class.String(), RetryAt: wall(r.Attempts.RetryAt), Failures: r.Attempts.Failures,
			FailingSince: wall(r.Attempts.FailingSince), FailedAt: wall(r.Attempts.FailedAt), Recent: walls(r.Attempts.Recent),
		},
	}
	f.History = formOfHistory(r.History)
	if t := r.Token; !t.AccessToken.IsZero() {
		f.Grant = &grantForm{
			AccessToken: t.AccessToken.Reveal(), TokenType: t.TokenType, Scope: t.Scope,
			Expiry: wall(t.Expiry), RefreshOn: wall(t.RefreshOn), AcquiredAt: wall(r.AcquiredAt),
		}
	}
	plain, err := json.Marshal(f)
	if err != nil { // an instant beyond the year 9999
		return nil, errors.New("an instant in it cannot be written down")
	}
	return plain, nil
}

// errNonsense means that only a bug or a forger can have written a record. It has no details, because json's errors
// quote values.
var errNonsense = errors.New("it does not hold a record")

// decode reads the record of the token called name.
func decode(name string, plain []byte) (Record, error) {
	var head struct {
		Version int    `json:"version"`
		Token   string `json:"token"`
	}
	err := json.Unmarshal(plain, &head)
	switch {
	case err != nil || head.Version < 1:
		return Record{}, errNonsense
	case head.Version > formVersion:
		return Record{}, fmt.Errorf("it was written by a newer version of credagent, in form %d; this one knows form %d", head.Version, formVersion)
	case head.Token != name && namePattern().MatchString(head.Token):
		return Record{}, fmt.Errorf("it holds the state of token %q", head.Token)
	}
	var f form
	if err := json.Unmarshal(plain, &f); err != nil || f.Token != name || f.SavedAt.IsZero() {
		return Record{}, errNonsense
	}
	return f.record()
}

func (f form) record() (Record, error) {
	class, known := classOf(f.Attempts.Class)
	if !known || !f.Challenge.sound() {
		return Record{}, errNonsense
	}
	history, sound := f.History.history()
	if !sound {
		return Record{}, errNonsense
	}
	r := Record{
		History:   history,
		SavedAt:   f.SavedAt.UTC(),
		Binding:   Binding(f.Binding),
		Challenge: Challenge(f.Challenge),
		Credential: Credential{
			Files: f.Credential.Files, Identity: f.Credential.Identity,
			Choice: policy.Choice{Fallback: f.Credential.Fallback, Spent: f.Credential.Spent},
		},
		Gate: policy.Gate{
			BlockedUntil: f.Gate.BlockedUntil.UTC(), RetryAt: f.Gate.RetryAt.UTC(),
			Failures: f.Gate.Failures, Lasting: f.Gate.Lasting,
			FailingSince: f.Gate.FailingSince.UTC(), FailedAt: f.Gate.FailedAt.UTC(), Recent: walls(f.Gate.Recent),
		},
		Attempts: policy.Attempts{
			Class: class, RetryAt: f.Attempts.RetryAt.UTC(), Failures: f.Attempts.Failures,
			FailingSince: f.Attempts.FailingSince.UTC(), FailedAt: f.Attempts.FailedAt.UTC(), Recent: walls(f.Attempts.Recent),
		},
	}
	if g := f.Grant; g != nil {
		if !g.sound() {
			return Record{}, errNonsense
		}
		r.AcquiredAt = g.AcquiredAt.UTC()
		r.Token = token.Token{
			Name: f.Token, AccessToken: secret.New(g.AccessToken), TokenType: g.TokenType, Scope: g.Scope,
			ClientID: f.Binding.ClientID, Expiry: g.Expiry.UTC(), RefreshOn: g.RefreshOn.UTC(),
		}
	}
	return r, nil
}

// maxMessage limits the saved message of a failure, in bytes.
const maxMessage = 4 << 10

func formOfHistory(h History) historyForm {
	f := historyForm{Requests: max(h.Requests, 0), AcquiredAt: wall(h.AcquiredAt), Expiry: wall(h.Expiry)}
	if h.Failure != (Failure{}) {
		f.Failure = failureForm{
			At: wall(h.Failure.At), Class: h.Failure.Class.String(),
			Message: line(h.Failure.Message), Advice: line(h.Failure.Advice),
		}
	}
	return f
}

// history reads what will be displayed: a forger may have written it, so it is cleaned like a server's answer.
func (f historyForm) history() (h History, sound bool) {
	h = History{Requests: f.Requests, AcquiredAt: f.AcquiredAt.UTC(), Expiry: f.Expiry.UTC()}
	if f.Failure == (failureForm{}) {
		return h, f.Requests >= 0
	}
	class, known := classOf(f.Failure.Class)
	h.Failure = Failure{
		At: f.Failure.At.UTC(), Class: class,
		Message: line(f.Failure.Message), Advice: line(f.Failure.Advice),
	}
	return h, known && class != policy.Success && f.Requests >= 0
}

// line makes a text one printable line of limited length. It does not use [printable.Text], whose truncation mark
// would make a text longer each time that it is read and written.
func line(text string) string {
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "")
	}
	return printable.Line(text)
}

// maxToken limits an access token, in bytes, as in a server's answer.
const maxToken = 128 << 10

// sound reports whether a server's answer with it would have been accepted (RFC 6749, appendix A): anyone who knows
// the public key can make a record, which must not put anything into a sink that a server could not.
func (g grantForm) sound() bool {
	return g.AccessToken != "" && len(g.AccessToken) <= maxToken && visible(g.AccessToken) && !strings.Contains(g.AccessToken, " ") &&
		g.TokenType == "Bearer" && visible(g.Scope)
}

func visible(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// maxClaims limits a claims request, in bytes; several challenges may be merged in it.
const maxClaims = 64 << 10

// sound reports whether the claims are JSON objects, as required.
func (c challengeForm) sound() bool {
	return len(c.Claims) <= maxClaims && len(c.Answered) <= maxClaims && isObject(c.Claims) && isObject(c.Answered)
}

func isObject(claims string) bool {
	var object map[string]json.RawMessage
	return claims == "" || json.Unmarshal([]byte(claims), &object) == nil && object != nil
}

func classOf(name string) (policy.Class, bool) {
	for _, class := range policy.Classes() {
		if class.String() == name {
			return class, true
		}
	}
	return 0, false
}

// wall returns an instant as the wall clock has it.
func wall(t time.Time) time.Time { return t.Round(0).UTC() }

func walls(instants []time.Time) []time.Time {
	var all []time.Time
	for _, t := range instants {
		all = append(all, wall(t))
	}
	return all
}
