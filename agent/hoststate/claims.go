package hoststate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/credagent/credagent/internal/lockfile"
)

// Claim claims a path for this process, until [Store.Release] or the process's end. If another process has claimed
// it, under any spelling, the error names that process. A path may be claimed repeatedly, as a reload does; each
// claim needs its release. A path whose directory is missing is only known by its spelling, so claim it again once
// the directory exists.
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

// Release releases a claimed path, under the name that it had when it was claimed: the name of a path changes if its
// directory is created later. Of several claims the oldest ends.
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

// Turn takes the turn to find out, for a client at a token endpoint, whether the server answers again after a wait,
// so that the commands that waited do not all ask at once. taken is false while another process has it; else done
// releases it. Within a process only the client's gate takes it.
func (s *Store) Turn(endpoint, clientID string) (done func(), taken bool) {
	name := "turn " + fileOf(endpoint, clientID)
	if s.lock(name) != nil {
		return nil, false
	}
	return func() { s.unlock(name) }, true
}

// lock takes the lock of a name in every directory, or in none. A file system without locks cannot exclude others;
// another directory may.
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

// identity identifies a file by its directory, which has the same id however it is spelled, and its name there,
// because the file itself is replaced at each write.
func identity(path string) string {
	dir, name := filepath.Split(path)
	info, err := os.Stat(dir)
	if err != nil {
		return filepath.Clean(path)
	}
	return fmt.Sprintf("%s/%s", fileNumber(info), name)
}
