// Package hoststate keeps what all credagent commands on a host share: until when servers asked to be
// left alone, which sinks, sockets and state directories an agent has for itself, and where sinks were.
// The daemon finds it after a restart; once from cron, exec and validate --probe find it beside the daemon.
//
// There is one small file for each gate, named by a digest of it, and it holds an instant and no
// secret. A file is replaced in one step, so readers need no lock; writers take one, so that of two
// waits the longer one stays. One caveat: commands that have no directory in common share nothing.
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
	lockName     = "lock"   // taken by who writes a wait
	claimsName   = "agents" // in which agents claim what is theirs
	suffix       = ".json"
	maxFile      = 4 << 10 // bytes
	// lockTimeout bounds the wait for another writer: one that was stopped must not stop others.
	lockTimeout = time.Second
)

// fileOf returns the name of the file of a client at a token endpoint, in the one spelling that all
// configurations share. The length keeps the two from running together.
func fileOf(endpoint, clientID string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(endpoint), endpoint, clientID))
	return hex.EncodeToString(sum[:16]) + suffix
}

// Store is what is shared. Its methods may be called from several goroutines. A process has one.
type Store struct {
	dirs   []*os.Root
	claims []*lockfile.File // one for each of dirs
	clock  Clock

	mu      sync.Mutex
	claimed map[string][]string // the names by which paths are claimed, the oldest first; guarded by mu
}

// Clock is a clock that setting the time does not change and that goes on during a suspend.
type Clock interface {
	// Boot returns which boot of the host this is, and how long ago it was; "" where that is unknown.
	Boot() (id string, since time.Duration)
}

// Options say where to look.
type Options struct {
	State   string   // the state directory, which is there; "" for none
	Runtime []string // directories for runtime files, of which the first that can be written is used
	Probe   bool     // neither makes a directory for runtime files, nor anything in the state directory
	Clock   Clock    // nil leaves the wall clock alone to measure waits across processes
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

// OwnDirectories returns the directories for its own files in directories that hold runtime files.
func OwnDirectories(runtime []string) []string {
	var own []string
	for _, dir := range runtime {
		own = append(own, filepath.Join(dir, subdirectory))
	}
	return own
}

// Open opens the state directory and the first runtime directory that can be written. The error says
// for each that cannot be used why; the store keeps what it can, and nothing where no directory is left.
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
	_ = giveToOwner(dir, claims) // else the service's user cannot tell root's agent, and says so
	s.dirs, s.claims = append(s.dirs, dir), append(s.claims, lockfile.New(claims))
	return nil
}

// Close gives back what is claimed and closes the directories.
func (s *Store) Close() {
	for _, claims := range s.claims {
		claims.Close()
	}
	for _, dir := range s.dirs {
		dir.Close()
	}
}

// Until returns when the wait of a client at a token endpoint is over; zero where there is none. It
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

// Extend keeps the wait of a client at a token endpoint, unless a longer one is known.
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

// until reads a record against the clock of its boot, which nobody can set, else against the wall's.
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
				_ = dir.Remove(name) // what stays is read as over
			}
		}
		unlock()
	}
}

// removeAbandoned removes the temporary files that no process writes any more.
func removeAbandoned(dir *os.Root) {
	owner, err := ownerOf(dir)
	if err != nil {
		return
	}
	for _, temporaries := range atomicfile.LeftOvers(dir) {
		for _, temporary := range temporaries {
			if atomicfile.IsAbandoned(dir, temporary, owner) {
				_ = dir.Remove(temporary) // what stays is found by the next process
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

// lock takes the directory's lock for a writer. Without it a shorter wait could replace a longer one
// that is written at the same moment, which is less than to wait for ever.
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
