package store

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// secretStreamPrefix begins the key of a stream's record. No token's key begins with it, and unlike [streamPrefix] it
// may be part of a Secret's key.
const secretStreamPrefix = "_signals."

// SaveStream is [Store.SaveStream]. If another process has taken this one's place, its error is a [*TakenError].
func (s *Secret) SaveStream(name string, r Stream) error {
	r.SavedAt = time.Now()
	key, err := keyOfStream(name)
	var sealed []byte
	if err == nil {
		sealed, err = s.crypt.sealStream(name, r)
	}
	if err == nil {
		err = s.patch(key, sealed)
	}
	if err != nil {
		return fmt.Errorf("saving the state of stream %q: %w", name, err)
	}
	return nil
}

// LoadStream is [Store.LoadStream].
func (s *Secret) LoadStream(name string) (Stream, error) {
	key, err := keyOfStream(name)
	var sealed []byte
	if err == nil {
		sealed, err = s.readKey(key)
	}
	if err != nil {
		return Stream{}, fmt.Errorf("loading the state of stream %q: %w", name, err)
	}
	r, err := s.crypt.unsealStream(name, sealed)
	if err != nil {
		return Stream{}, &DamageError{s.at() + ": " + key, err}
	}
	return r.restored(time.Now()), nil
}

// readKey returns one record of the Secret. Its error wraps [fs.ErrNotExist] if there is none.
func (s *Secret) readKey(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, err := s.read()
	if err != nil {
		return nil, err
	}
	sealed, stored := data[key]
	if !stored {
		return nil, fmt.Errorf("reading key %q of Secret %q: %w", key, s.at(), fs.ErrNotExist)
	}
	return sealed, nil
}

func keyOfStream(stream string) (string, error) {
	if !namePattern().MatchString(stream) {
		return "", errors.New("that is not the name of a stream")
	}
	return secretStreamPrefix + stream + suffix, nil
}
