//go:build !unix

package hoststate

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// runtimeDirectory replaces the runtime directory, which this system does not have.
var runtimeDirectory = filepath.Join(os.TempDir(), "credagent")

const openFlags = 0

func openDirectory(path string, create, only bool) (*os.Root, error) {
	if create {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	parent, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if !only {
		if err := parent.Mkdir(subdirectory, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return parent.OpenRoot(subdirectory)
}

func giveToOwner(*os.Root, *os.File) error { return nil }

// fileNumber returns the name of a directory: here file ids are not available without opening the file.
func fileNumber(info fs.FileInfo) string { return info.Name() }

// ownerOf returns no owner: this system has none.
func ownerOf(*os.Root) (int, error) { return -1, nil }
