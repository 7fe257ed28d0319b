package hoststate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/credagent/credagent/internal/atomicfile"
)

const (
	sinkDirsName = "sinkdirs"
	maxSinkDirs  = 256     // directories that are remembered
	maxSinkFile  = 4 << 20 // bytes: however many sinks are in use, their directories are all written
	maxOwner     = 1<<32 - 2
)

// sinkDirs is what the file says: the directories in which sinks were written, and the user whom a sink
// there belonged to beside the agent's own; -1 for nobody.
type sinkDirs struct {
	Directories map[string]int `json:"directories"`
}

// AddSinkDirectories remembers in which directories sinks are, and returns in which they ever were: a
// killed process may have left something there. A directory that is gone is forgotten.
func (s *Store) AddSinkDirectories(used map[string]int) (ever map[string]int, err error) {
	ever = map[string]int{}
	var problems []error
	for _, dir := range s.dirs {
		known, err := addSinkDirs(dir, used)
		maps.Copy(ever, known)
		if err != nil && !errors.Is(err, fs.ErrClosed) { // a store that was closed meanwhile is the next process's
			problems = append(problems, fmt.Errorf("keeping the sinks' directories in %q: %w", filepath.Join(dir.Name(), sinkDirsName), err))
		}
	}
	maps.Copy(ever, used)
	return ever, errors.Join(problems...)
}

func addSinkDirs(dir *os.Root, used map[string]int) (known map[string]int, err error) {
	unlock := lock(dir)
	defer unlock()
	content, err := readFile(dir, sinkDirsName, maxSinkFile)
	if err == nil {
		known, err = decodeSinkDirs(content)
	}
	var lost error
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		known, lost = nil, fmt.Errorf("%w: it is written anew, look for temporary files of former sinks yourself", atomicfile.Cause(err))
	}
	next := map[string]int{}
	maps.Copy(next, used)
	for path, owner := range known {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) || len(next) >= maxSinkDirs {
			continue
		}
		if _, again := next[path]; !again {
			next[path] = owner
		}
	}
	if lost == nil && maps.Equal(next, known) {
		return known, nil
	}
	return known, errors.Join(lost, writeSinkDirs(dir, next))
}

func writeSinkDirs(dir *os.Root, all map[string]int) error {
	text, err := json.Marshal(sinkDirs{all})
	if err != nil {
		return err
	}
	return atomicfile.Cause(atomicfile.Replace(dir, atomicfile.File{
		Name:    sinkDirsName,
		Content: append(text, '\n'),
		Prepare: func(f *os.File) (fs.FileInfo, error) { return nil, giveToOwner(dir, f) },
	}))
}

func decodeSinkDirs(content []byte) (map[string]int, error) {
	var d sinkDirs
	if err := json.Unmarshal(content, &d); err != nil {
		return nil, errors.New("it is not a list of directories")
	}
	for path, owner := range d.Directories {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || owner < -1 || owner > maxOwner {
			return nil, errors.New("what it names is no directory with its owner")
		}
	}
	return d.Directories, nil
}
