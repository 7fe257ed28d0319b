// Package hoststate keeps what all credagent commands on a host share: the waits that servers asked for, the sinks,
// sockets and state directories that an agent has claimed, and the directories of former sinks. The daemon reads it
// after a restart; once from cron, exec and validate --probe read it while the daemon runs.
//
// There is one small file for each gate, named by a digest; it contains an instant and no secret. A file is replaced
// atomically, so readers need no lock; writers take one, so that the longer of two waits is kept. One caveat:
// commands without a common directory share nothing.
package hoststate

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/atomicfile"
	"github.com/credagent/credagent/internal/lockfile"
)

const (
	subdirectory = "host"
	lockName     = "lock"   // locked by writers of waits
	claimsName   = "agents" // with the agents' claims
	suffix       = ".json"
	maxFile      = 4 << 10 // bytes
	// lockTimeout limits the wait for another writer: a stopped one must not block others.
	lockTimeout = time.Second
)

// fileOf returns the name of the file of a client at a token endpoint, in the canonical spelling. The length
// separates the two parts unambiguously.
func fileOf(endpoint, clientID string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(endpoint), endpoint, clientID))
	return hex.EncodeToString(sum[:16]) + suffix
}

// Store is the shared state. Its methods may be called from several goroutines. A process has one.
type Store struct {
	dirs   []*os.Root
	claims []*lockfile.File // one for each of dirs
	clock  Clock

	mu      sync.Mutex
	claimed map[string][]string // the names under which paths are claimed, oldest first; guarded by mu
}

// Clock is a clock that setting the time does not change and that keeps running during a suspend.
type Clock interface {
	// Boot returns the id of this boot, and how long ago it was; "" if unknown.
	Boot() (id string, since time.Duration)
}

// Options configures the directories.
type Options struct {
	State   string   // the state directory, which must exist; "" for none
	Runtime []string // candidates for runtime files, of which the first writable one is used
	Probe   bool     // creates no directory for runtime files, and nothing in the state directory
	Clock   Clock    // nil uses only the wall clock across processes
}

// RuntimeDirectories returns the directories that may hold runtime files, by preference. getenv is
// [os.Getenv].
func RuntimeDirectories(getenv func(string) string) []string {
	var dirs []string
	if list := filepath.SplitList(getenv("RUNTIME_DIRECTORY")); len(list) > 0 && filepath.IsAbs(list[0]) { // systemd separates by colons
		dirs = append(dirs, list[0])
	}
	dirs = append(dirs, runtimeDirectory)
	if xdg := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(xdg) {
		dirs = append(dirs, filepath.Join(xdg, "credagent"))
	}
	return dirs
}

// OwnDirectories returns credagent's own subdirectories of the runtime directories.
func OwnDirectories(runtime []string) []string {
	var own []string
	for _, dir := range runtime {
		own = append(own, filepath.Join(dir, subdirectory))
	}
	return own
}

// Open opens the state directory and the first runtime directory that can be written. The error gives the reason for
// each unusable directory; the store keeps what it can, and nothing if there is no usable directory.
func Open(o Options) (*Store, error) {
	s := &Store{clock: o.Clock, claimed: map[string][]string{}}
	var reasons []error
	if o.State != "" {
		if err := s.add(o.State, false, o.Probe); err != nil {
			reasons = append(reasons, err)
		}
	}
	for _, path := range o.Runtime {
		err := s.add(path, !o.Probe, false)
		if err == nil {
			break
		}
		reasons = append(reasons, err)
	}
	if len(s.dirs) > 0 {
		s.prune()
		return s, nil
	}
	return s, errors.Join(reasons...)
}

func (s *Store) add(path string, create, only bool) error {
	dir, err := openDirectory(path, create, only)
	if err != nil {
		return fmt.Errorf("directory %q: %w", path, atomicfile.Cause(err))
	}
	claims, err := dir.OpenFile(claimsName, os.O_RDWR|os.O_CREATE|openFlags, 0o600)
	if err != nil {
		dir.Close()
		return fmt.Errorf("directory %q: %w", path, atomicfile.Cause(err))
	}
	_ = giveToOwner(dir, claims) // otherwise the service's user cannot see root's claims, and reports that
	s.dirs, s.claims = append(s.dirs, dir), append(s.claims, lockfile.New(claims))
	return nil
}

// Close releases all claims and closes the directories.
func (s *Store) Close() {
	for _, claims := range s.claims {
		claims.Close()
	}
	for _, dir := range s.dirs {
		dir.Close()
	}
}

// Until returns when the wait of a client at a token endpoint is over; zero if there is none. It
// never returns an instant further away than the longest Retry-After that is honoured.
func (s *Store) Until(endpoint, clientID string) (time.Time, error) {
	name := fileOf(endpoint, clientID)
	var longest time.Time
	var problems []error
	for _, dir := range s.dirs {
		until, err := s.read(dir, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, fmt.Errorf("reading the wait %q: %w", filepath.Join(dir.Name(), name), atomicfile.Cause(err)))
		}
		if until.After(longest) {
			longest = until
		}
	}
	return longest, errors.Join(problems...)
}

// Extend records the wait of a client at a token endpoint, unless a longer one is known.
func (s *Store) Extend(endpoint, clientID string, until time.Time) error {
	name := fileOf(endpoint, clientID)
	var problems []error
	for _, dir := range s.dirs {
		if err := s.extend(dir, name, until); err != nil {
			problems = append(problems, fmt.Errorf("keeping the wait %q: %w", filepath.Join(dir.Name(), name), atomicfile.Cause(err)))
		}
	}
	return errors.Join(problems...)
}

func (s *Store) extend(dir *os.Root, name string, until time.Time) error {
	unlock := lock(dir)
	defer unlock()
	if known, err := s.read(dir, name); err == nil && !until.After(known) {
		return nil
	}
	return atomicfile.Replace(dir, atomicfile.File{
		Name:    name,
		Content: encode(s.record(until)),
		Prepare: func(f *os.File) (fs.FileInfo, error) { return nil, giveToOwner(dir, f) },
	})
}

func (s *Store) record(until time.Time) record {
	now := time.Now()
	r := record{Until: until.Round(0).UTC(), Saved: now.Round(0).UTC()}
	if s.clock != nil {
		id, since := s.clock.Boot()
		r.Boot, r.BootUntil = id, since+until.Sub(now)
	}
	return r
}

func (s *Store) read(dir *os.Root, name string) (time.Time, error) {
	content, err := readFile(dir, name, maxFile)
	if err != nil {
		return time.Time{}, err
	}
	r, err := decode(content)
	if err != nil {
		return time.Time{}, err
	}
	return s.until(r, time.Now()), nil
}

// until evaluates a record by the clock since its boot, which cannot be set, else by the wall clock.
func (s *Store) until(r record, now time.Time) time.Time {
	left := policy.RestoredBlock(r.Until, r.Saved, now).Sub(now)
	if s.clock != nil && r.Boot != "" {
		if id, since := s.clock.Boot(); id == r.Boot {
			left = min(r.BootUntil-since, policy.LongestBlock)
		}
	}
	if left <= 0 {
		return time.Time{}
	}
	return now.Add(left)
}

// prune removes the waits that are over, and the temporary files of writers that were killed.
func (s *Store) prune() {
	for _, dir := range s.dirs {
		unlock := lock(dir)
		removeAbandoned(dir)
		for _, name := range names(dir) {
			if filepath.Ext(name) != suffix {
				continue
			}
			if until, err := s.read(dir, name); err == nil && until.IsZero() {
				_ = dir.Remove(name) // a remaining file reads as over
			}
		}
		unlock()
	}
}

// removeAbandoned removes the temporary files that no process is still writing.
func removeAbandoned(dir *os.Root) {
	owner, err := ownerOf(dir)
	if err != nil {
		return
	}
	for _, temporaries := range atomicfile.LeftOvers(dir) {
		for _, temporary := range temporaries {
			if atomicfile.IsAbandoned(dir, temporary, owner) {
				_ = dir.Remove(temporary) // a remaining file is found by the next process
			}
		}
	}
}

func names(root *os.Root) []string {
	dir, err := root.Open(".")
	if err != nil {
		return nil
	}
	defer dir.Close()
	all, _ := dir.Readdirnames(-1)
	return all
}

// lock takes the directory's lock for a writer. If it times out, a shorter wait could replace a longer one that is
// written at the same moment, which is better than blocking forever.
func lock(dir *os.Root) (unlock func()) {
	file, err := dir.OpenFile(lockName, os.O_RDWR|os.O_CREATE|openFlags, 0o600)
	if err != nil {
		return func() {}
	}
	_ = giveToOwner(dir, file)
	begun, again := time.Now(), time.NewTicker(5*time.Millisecond)
	defer again.Stop()
	for !lockfile.TryExclusive(file) && time.Since(begun) < lockTimeout {
		<-again.C
	}
	return func() { file.Close() }
}
