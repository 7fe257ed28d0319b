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
// a reload does; each claim has its release.
func (s *Store) Claim(path string) error {
	name := identity(path)
	for i, claims := range s.claims {
		err := claims.Lock(name) // a file system without locks tells nobody apart; another directory may
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

// Release gives a claimed path back.
func (s *Store) Release(path string) {
	name := identity(path)
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
