package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/atomicfile"
	"github.com/credagent/credagent/internal/printable"
)

// Stream is what is remembered of a stream of Shared Signals: what a restart must neither lose nor do
// twice.
type Stream struct {
	Issuer   string   // of the transmitter; a record of another one is of no use, as with ClientID
	ClientID string   // whom the stream belongs to
	ID       string   // the transmitter's name of the stream; "" for none
	Audience []string // that the transmitter gave it
	Seen     []string // digests of the events that were processed, oldest first
	Acks     []string // jti of the events that are yet to be acknowledged
	Pending  []Effect // what events brought about and is not done
	Added    []string // digests of the subjects that the stream has

	Verified     time.Time   // when a verification event last came
	VerifyAsked  time.Time   // when one was last asked for
	VerifyState  string      // that it will have; "" for none that is under way
	BlockedUntil time.Time   // asked for by Retry-After
	Recent       []time.Time // when the last requests were sent, oldest first
	SavedAt      time.Time   // by the clock of the process that saved it
}

// Effect is what an event brought about: of a client, whatever was issued at or before an instant is no
// good any more.
type Effect struct {
	Event  string // such as session-revoked
	Client string // by its name in the configuration
	At     time.Time
	Serial string // of the certificate that it is about; "" for none
}

// Bounds of a stream's record.
const (
	MaxSeen    = 4096
	maxAcks    = 200
	maxPending = 1000
	maxJTI     = 1 << 10 // bytes
)

type streamForm struct {
	Version      int          `json:"version"`
	Stream       string       `json:"stream"` // the name, so that one stream's file is not taken for another's
	SavedAt      time.Time    `json:"saved_at"`
	Issuer       string       `json:"issuer"`
	ClientID     string       `json:"client_id"`
	ID           string       `json:"stream_id,omitempty"`
	Audience     []string     `json:"audience,omitempty"`
	Seen         []string     `json:"seen,omitempty"`
	Acks         []string     `json:"acks,omitempty"`
	Pending      []effectForm `json:"pending,omitempty"`
	Added        []string     `json:"added,omitempty"`
	Verified     time.Time    `json:"verified,omitzero"`
	VerifyAsked  time.Time    `json:"verify_asked,omitzero"`
	VerifyState  string       `json:"verify_state,omitempty"`
	BlockedUntil time.Time    `json:"blocked_until,omitzero"`
	Recent       []time.Time  `json:"recent,omitempty"`
}

type effectForm struct {
	Event  string    `json:"event"`
	Client string    `json:"client"`
	At     time.Time `json:"at"`
	Serial string    `json:"serial,omitempty"`
}

// errNoStream covers what only a bug or a forger could have written.
var errNoStream = errors.New("it does not hold a stream's record")

// SaveStream puts a stream's record in the place of the old one. Its SavedAt is now. After an error the
// old record is as it was.
func (s *Store) SaveStream(name string, r Stream) error {
	r.SavedAt = time.Now()
	if err := s.saveStream(name, r); err != nil {
		return fmt.Errorf("saving the state of stream %q: %w", name, err)
	}
	return nil
}

func (s *Store) saveStream(name string, r Stream) error {
	file, err := fileOfStream(name)
	if err != nil {
		return err
	}
	sealed, err := s.sealStream(name, r)
	if err != nil {
		return err
	}
	return s.write(file, sealed)
}

func (s *Store) sealStream(name string, r Stream) ([]byte, error) {
	plain, err := encodeStream(name, r)
	if err != nil {
		return nil, err
	}
	return s.key.encrypt(plain)
}

// LoadStream returns a stream's record, as of now. Its error is a [*DamageError], or wraps [fs.ErrNotExist]
// where nothing is stored.
func (s *Store) LoadStream(name string) (Stream, error) {
	file, err := fileOfStream(name)
	if err != nil {
		return Stream{}, fmt.Errorf("loading the state of stream %q: %w", name, err)
	}
	root, err := s.openExisting()
	if err != nil {
		return Stream{}, fmt.Errorf("loading the state of stream %q: %w", name, err)
	}
	defer root.Close()
	data, err := read(root, file)
	if errors.Is(err, atomicfile.ErrReplaced) {
		data, err = read(root, file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Stream{}, fmt.Errorf("reading state %q: %w", s.path(file), err)
	}
	var r Stream
	if err == nil {
		r, err = s.unsealStream(name, data)
	}
	if err != nil {
		return Stream{}, &DamageError{s.path(file), err}
	}
	return r.restored(time.Now()), nil
}

// RemoveStream forgets a stream. That there is nothing to forget is no error.
func (s *Store) RemoveStream(name string) error {
	file, err := fileOfStream(name)
	if err == nil {
		err = s.removeFile(file)
	}
	if err != nil {
		return fmt.Errorf("removing the state of stream %q: %w", name, err)
	}
	return nil
}

func (s *Store) unsealStream(name string, sealed []byte) (Stream, error) {
	plain, err := s.key.decrypt(sealed)
	if err != nil {
		return Stream{}, err
	}
	return decodeStream(name, plain)
}

func encodeStream(name string, r Stream) ([]byte, error) {
	f := streamForm{
		Version: formVersion, Stream: name, SavedAt: wall(r.SavedAt), Issuer: r.Issuer, ClientID: r.ClientID, ID: r.ID,
		Audience: r.Audience, Seen: r.Seen, Acks: r.Acks, Added: r.Added,
		Verified: wall(r.Verified), VerifyAsked: wall(r.VerifyAsked), VerifyState: r.VerifyState, BlockedUntil: wall(r.BlockedUntil), Recent: walls(r.Recent),
	}
	for _, e := range r.Pending {
		e.At = wall(e.At)
		f.Pending = append(f.Pending, effectForm(e))
	}
	if !f.sound(name) {
		return nil, errNoStream
	}
	plain, err := json.Marshal(f)
	if err != nil { // an instant beyond the year 9999
		return nil, errors.New("an instant in it cannot be written down")
	}
	return plain, nil
}

func decodeStream(name string, plain []byte) (Stream, error) {
	var f streamForm
	if err := json.Unmarshal(plain, &f); err != nil {
		return Stream{}, errNoStream
	}
	if f.Version > formVersion {
		return Stream{}, fmt.Errorf("it was written by a newer version of credagent, in form %d; this one knows form %d", f.Version, formVersion)
	}
	if f.Version < 1 || !f.sound(name) {
		return Stream{}, errNoStream
	}
	r := Stream{
		Issuer: f.Issuer, ClientID: f.ClientID, ID: f.ID, Audience: f.Audience, Seen: f.Seen, Acks: f.Acks, Added: f.Added,
		Verified: f.Verified.UTC(), VerifyAsked: f.VerifyAsked.UTC(), VerifyState: f.VerifyState, BlockedUntil: f.BlockedUntil.UTC(), Recent: walls(f.Recent), SavedAt: f.SavedAt.UTC(),
	}
	for _, e := range f.Pending {
		e.At = e.At.UTC()
		r.Pending = append(r.Pending, Effect(e))
	}
	return r, nil
}

// sound reports whether the record is one that credagent writes: whoever knows the public key can make one.
func (f streamForm) sound(name string) bool {
	if f.Stream != name || f.SavedAt.IsZero() || len(f.Seen) > MaxSeen || len(f.Acks) > maxAcks || len(f.Pending) > maxPending || len(f.Recent) > policy.MaxInWindow {
		return false
	}
	texts := append([]string{f.Issuer, f.ClientID, f.ID, f.VerifyState}, f.Audience...)
	texts = append(append(append(texts, f.Seen...), f.Acks...), f.Added...)
	for _, e := range f.Pending {
		texts = append(texts, e.Event, e.Client, e.Serial)
	}
	for _, text := range texts {
		if len(text) > maxJTI || printable.Line(text) != text {
			return false
		}
	}
	return true
}

// restored carries the record over to this process: no instant lies further ahead than it may.
func (r Stream) restored(now time.Time) Stream {
	r.BlockedUntil = policy.RestoredBlock(r.BlockedUntil, r.SavedAt, now)
	r.Recent = policy.Attempts{Recent: r.Recent}.Restored(r.SavedAt, now).Recent
	r.Verified = policy.Restored(r.Verified, r.SavedAt, now, 0)
	r.VerifyAsked = policy.Restored(r.VerifyAsked, r.SavedAt, now, 0)
	for i := range r.Pending {
		r.Pending[i].At = policy.Restored(r.Pending[i].At, r.SavedAt, now, 0).Round(0).UTC()
	}
	return r
}

// fileOfStream is no name that a token's file can have.
func fileOfStream(stream string) (string, error) {
	if !namePattern().MatchString(stream) {
		return "", errors.New("that is not the name of a stream")
	}
	return streamPrefix + stream + suffix, nil
}

const streamPrefix = "signals@"
