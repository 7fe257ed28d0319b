// Package store keeps the encrypted state that must survive a restart: each token, the waits of its client at the
// server, and the challenge that it answers.
//
// [Open] opens a directory with a key from credagent keygen; the [Store] is the agent's Memory. A program that stores
// the records itself converts them with [Encode] and [Decode].
//
// There is one file for each token and each stream of Shared Signals, and files are replaced atomically, so a kill at any moment leaves the old or the
// new one. If a file is damaged, the others are still read: a [DamageError] means that this one counts as missing.
// One caveat: encryption only protects the files from reading; the directory protects them from writing.
package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/internal/atomicfile"
	"github.com/credagent/credagent/internal/host"
)

const (
	suffix  = ".age"
	maxFile = 1 << 20 // bytes
)

// namePattern matches the configuration's names. A file name made from one stays in the directory, and different
// names give different files.
var namePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`) })

// Store is a directory of encrypted records. Its methods may be called concurrently, but for one token only one at a
// time.
type Store struct {
	dir string
	key key
}

// SetupError explains why a store cannot be used as configured.
type SetupError struct {
	Setting string // of the configuration's mapping state: "dir" or "key_file"
	Err     error
}

// Error implements error.
func (e *SetupError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SetupError) Unwrap() error { return e.Err }

// DamageError means that a token's record cannot be used. It is not a reason to stop: the token then has no saved
// state, and the next [Store.Save] replaces the file.
type DamageError struct {
	Path string
	Err  error // why
}

// Error implements error.
func (e *DamageError) Error() string {
	return fmt.Sprintf("reading state %q: %v; it is ignored and will be replaced", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *DamageError) Unwrap() error { return e.Err }

// Open reads the key and opens the directory, which it creates if its parent exists. It
// refuses a directory that others can enter and a key that others can read, with a [*SetupError]
// that explains what to do, and removes the temporary files that an earlier process left.
func Open(dir, keyFile string) (*Store, error) {
	s, err := prepare(dir, keyFile)
	if err != nil {
		return nil, err
	}
	root, err := s.open()
	if err != nil {
		return nil, &SetupError{"dir", err}
	}
	defer root.Close()
	atomicfile.RemoveLeftOvers(root, func(name string) bool {
		_, ours := tokenOf(strings.TrimPrefix(name, streamPrefix))
		return ours
	})
	return s, nil
}

func prepare(dir, keyFile string) (*Store, error) {
	k, err := readKey(keyFile)
	if err != nil {
		return nil, &SetupError{"key_file", fmt.Errorf("reading the state key %q: %w", keyFile, err)}
	}
	return &Store{dir: dir, key: k}, nil
}

// Check reports everything that [Open] would refuse and every unusable record. It
// changes nothing.
func Check(dir, keyFile string) []error {
	var all []error
	s, err := prepare(dir, keyFile)
	if err != nil {
		all = append(all, err)
		s = &Store{dir: dir}
	}
	root, err := s.openExisting()
	if _, there := os.Lstat(dir); errors.Is(there, fs.ErrNotExist) {
		if isDirectory(filepath.Dir(dir)) {
			return all // Open makes it
		}
		err = s.noParent()
	}
	if err != nil {
		return append(all, &SetupError{"dir", err})
	}
	defer root.Close()
	if len(all) == 0 {
		_, all = s.loadAll(root)
	}
	return all
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Save replaces a token's record. Its SavedAt is now. After an error the old record is unchanged.
func (s *Store) Save(token string, r Record) error {
	r.SavedAt = time.Now()
	if err := s.save(token, r); err != nil {
		return fmt.Errorf("saving the state of token %q: %w", token, err)
	}
	return nil
}

func (s *Store) save(token string, r Record) error {
	name, err := fileOf(token)
	if err != nil {
		return err
	}
	content, err := s.seal(token, r)
	if err != nil {
		return err
	}
	return s.write(name, content)
}

// write puts a file in the place of the old one.
func (s *Store) write(name string, content []byte) error {
	root, err := s.open()
	if err != nil {
		return err
	}
	defer root.Close()
	if err := makeWay(root, name); err != nil {
		return fmt.Errorf("writing %q: %w", s.path(name), err)
	}
	file := atomicfile.File{Name: name, Content: content, Prepare: private}
	if err := atomicfile.Replace(root, file); err != nil {
		return fmt.Errorf("writing %q: %w", s.path(name), err)
	}
	if err := atomicfile.SyncDirectory(root); err != nil {
		return fmt.Errorf("syncing directory %q: %w", s.dir, atomicfile.Cause(err))
	}
	return nil
}

// private makes the mode exact, whatever the umask.
func private(file *os.File) (fs.FileInfo, error) {
	if err := file.Chmod(0o600); err != nil {
		return nil, fmt.Errorf("setting mode 0600: %w", atomicfile.Cause(err))
	}
	return nil, nil
}

// makeWay removes an empty directory at a file's name; a rename replaces anything else.
func makeWay(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil || !info.IsDir() {
		return nil
	}
	if err := root.Remove(name); err != nil {
		return fmt.Errorf("a directory is in its place: %w; remove it", atomicfile.Cause(err))
	}
	return nil
}

// Load returns a token's record, as of now: see [policy.Restored]. Its error is a [*DamageError], or wraps
// [fs.ErrNotExist] if nothing is stored.
func (s *Store) Load(token string) (Record, error) {
	name, err := fileOf(token)
	if err != nil {
		return Record{}, fmt.Errorf("loading the state of token %q: %w", token, err)
	}
	root, err := s.openExisting()
	if err != nil {
		return Record{}, fmt.Errorf("loading the state of token %q: %w", token, err)
	}
	defer root.Close()
	return s.load(root, name)
}

// LoadAll returns the records of all tokens, even of those that are no longer configured, because their clients'
// waits still hold. Each unusable record is a separate error.
func (s *Store) LoadAll() (map[string]Record, []error) {
	root, err := s.openExisting()
	if err != nil {
		return nil, []error{err}
	}
	defer root.Close()
	return s.loadAll(root)
}

func (s *Store) loadAll(root *os.Root) (map[string]Record, []error) {
	entries, err := fs.ReadDir(root.FS(), ".") // sorted
	if err != nil {
		return nil, []error{fmt.Errorf("reading state directory %q: %w", s.dir, atomicfile.Cause(err))}
	}
	records := make(map[string]Record, len(entries))
	var failed []error
	for _, entry := range entries {
		token, ours := tokenOf(entry.Name())
		if !ours {
			continue
		}
		r, err := s.load(root, entry.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		case err != nil:
			failed = append(failed, err)
		default:
			records[token] = r
		}
	}
	return records, failed
}

func (s *Store) load(root *os.Root, name string) (Record, error) {
	token, _ := tokenOf(name)
	data, err := read(root, name)
	if errors.Is(err, atomicfile.ErrReplaced) {
		data, err = read(root, name) // another process has just saved it
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, fmt.Errorf("reading state %q: %w", s.path(name), err)
	}
	var r Record
	if err == nil {
		r, err = s.unseal(token, data)
	}
	if err != nil {
		return Record{}, &DamageError{s.path(name), err}
	}
	return r.restored(time.Now()), nil
}

// read returns the content of a regular file of at most the size of a record.
func read(root *os.Root, name string) ([]byte, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, atomicfile.Cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is not a regular file (%s)", info.Mode())
	}
	file, err := atomicfile.Open(root, name, info)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, atomicfile.Cause(err)
	}
	if len(data) > maxFile {
		return nil, errors.New("it is larger than 1 MiB")
	}
	return data, nil
}

// Remove removes a token's record. A missing record is not an error.
func (s *Store) Remove(token string) error {
	err := s.remove(token)
	if err != nil {
		return fmt.Errorf("removing the state of token %q: %w", token, err)
	}
	return nil
}

func (s *Store) remove(token string) error {
	name, err := fileOf(token)
	if err != nil {
		return err
	}
	return s.removeFile(name)
}

func (s *Store) removeFile(name string) error {
	root, err := s.openExisting()
	if err != nil {
		return err
	}
	defer root.Close()
	err = root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing %q: %w", s.path(name), atomicfile.Cause(err))
	}
	if err := atomicfile.SyncDirectory(root); err != nil {
		return fmt.Errorf("syncing directory %q: %w", s.dir, atomicfile.Cause(err))
	}
	return nil
}

// open opens the directory, and creates it if it does not exist.
func (s *Store) open() (*os.Root, error) {
	root, err := s.openExisting()
	if !errors.Is(err, fs.ErrNotExist) {
		return root, err
	}
	made, err := host.Directory{Path: s.dir, Owner: host.NoOwner, Make: 0o700}.Open()
	switch {
	case errors.Is(err, fs.ErrNotExist) && !isDirectory(filepath.Dir(s.dir)):
		return nil, s.noParent()
	case err != nil:
		return nil, fmt.Errorf("making state directory %q: %w", s.dir, atomicfile.Cause(err))
	}
	_ = made.Close()
	return s.openExisting()
}

func (s *Store) noParent() error {
	return fmt.Errorf("making state directory %q: no such directory as %q; create that first", s.dir, filepath.Dir(s.dir))
}

// openExisting opens the existing directory. It is opened for each use, so that one that was removed and recreated
// works.
func (s *Store) openExisting() (*os.Root, error) {
	root, err := openDirectory(s.dir)
	if err != nil {
		return nil, fmt.Errorf("opening state directory %q: %w", s.dir, err)
	}
	return root, nil
}

func openDirectory(dir string) (*os.Root, error) {
	root, err := host.Directory{Path: dir, Owner: host.NoOwner}.Open()
	if err != nil {
		return nil, atomicfile.Cause(err)
	}
	info, err := root.Stat(".")
	if err == nil {
		err = checkDirectory(dir, info)
	}
	if err != nil {
		root.Close()
		return nil, atomicfile.Cause(err)
	}
	return root, nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

func fileOf(token string) (string, error) {
	if !namePattern().MatchString(token) {
		return "", errors.New("that is not the name of a token")
	}
	return token + suffix, nil
}

// tokenOf returns the token of a file, if the store can have written it.
func tokenOf(file string) (token string, ours bool) {
	token, ours = strings.CutSuffix(file, suffix)
	return token, ours && namePattern().MatchString(token)
}

// Gates returns the gates in the records, each joined from all records of it.
func Gates(records map[string]Record) map[GateKey]policy.Gate {
	sorted := make([]Record, 0, len(records))
	for _, r := range records {
		sorted = append(sorted, r)
	}
	slices.SortFunc(sorted, func(a, b Record) int { return a.SavedAt.Compare(b.SavedAt) })
	gates := make(map[GateKey]policy.Gate, len(sorted))
	for _, r := range sorted {
		key := r.Binding.GateKey()
		gates[key] = r.Gate.Joined(gates[key])
	}
	return gates
}
