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
	maxSinkFile  = 4 << 20 // bytes: the directories of all sinks in use are always written
	maxOwner     = 1<<32 - 2
)

// sinkDirs is the content of the file: the directories in which sinks were written, with the owner of a sink there
// other than the agent's user; -1 for none.
type sinkDirs struct {
	Directories map[string]int `json:"directories"`
}

// AddSinkDirectories records the directories of current sinks, and returns all recorded ones: a killed process may
// have left files there. A directory that is gone is dropped.
func (s *Store) AddSinkDirectories(used map[string]int) (ever map[string]int, err error) {
	ever = map[string]int{}
	var problems []error
	for _, dir := range s.dirs {
		known, err := addSinkDirs(dir, used)
		maps.Copy(ever, known)
		if err != nil && !errors.Is(err, fs.ErrClosed) { // a store that was closed meanwhile is left to the next process
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
