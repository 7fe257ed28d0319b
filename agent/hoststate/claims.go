package hoststate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/credagent/credagent/internal/lockfile"
)

// Claim takes a path for this process, until [Store.Release] or the process's end. Where another
// process has claimed it, by whatever spelling, the error says which. A path may be claimed often, as
// a reload does; each claim has its release. One whose directory was missing is known by its spelling
// alone, so it is claimed again when that is there.
func (s *Store) Claim(path string) error {
	name := identity(path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.lock(name); err != nil {
		return err
	}
	s.claimed[path] = append(s.claimed[path], name)
	return nil
}

// Release gives a claimed path back, by the name that it had when it was claimed: a path whose directory
// is made later has another one then. Of several claims the oldest ends.
func (s *Store) Release(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := s.claimed[path]
	if len(names) == 0 {
		return
	}
	name := names[0]
	if s.claimed[path] = names[1:]; len(names) == 1 {
		delete(s.claimed, path)
	}
	s.unlock(name)
}

// Turn takes the turn of a client at a token endpoint to find out whether the server answers again after a
// wait, so that the commands that waited do not ask all at once. taken is false while another process has
// it; else done gives it back. Within a process it is for the one gate of the client to take.
func (s *Store) Turn(endpoint, clientID string) (done func(), taken bool) {
	name := "turn " + fileOf(endpoint, clientID)
	if s.lock(name) != nil {
		return nil, false
	}
	return func() { s.unlock(name) }, true
}

// lock takes the lock of a name in every directory, or in none. A file system without locks tells nobody
// apart; another directory may.
func (s *Store) lock(name string) error {
	for i, claims := range s.claims {
		err := claims.Lock(name)
		var held *lockfile.HeldError
		if errors.As(err, &held) {
			for _, taken := range s.claims[:i] {
				taken.Unlock(name)
			}
			return err
		}
	}
	return nil
}

func (s *Store) unlock(name string) {
	for _, claims := range s.claims {
		claims.Unlock(name)
	}
}

// identity names what a path leads to by its directory, which has one number however it is spelt,
// and its name there. The file itself is replaced at each write.
func identity(path string) string {
	dir, name := filepath.Split(path)
	info, err := os.Stat(dir)
	if err != nil {
		return filepath.Clean(path)
	}
	return fmt.Sprintf("%s/%s", fileNumber(info), name)
}
