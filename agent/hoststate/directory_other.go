//go:build !unix

package hoststate

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// runtimeDirectory stands in for the runtime directory that this system does not have.
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

// fileNumber names a directory where files have no numbers that can be had without opening them.
func fileNumber(info fs.FileInfo) string { return info.Name() }

// ownerOf knows of no owner here.
func ownerOf(*os.Root) (int, error) { return -1, nil }
