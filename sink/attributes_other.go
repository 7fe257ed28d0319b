//go:build !unix

package sink

import (
	"errors"
	"io/fs"
	"os"
)

func checkOwnership(a attributes) error {
	if a.uid != unset || a.gid != unset {
		return errors.New("owner and group are not supported on this system; leave them out")
	}
	return nil
}

func (a attributes) match(*os.File) bool { return true }

func (a attributes) mend(*os.File) error { return nil }

func (a attributes) give(file *os.File) (fs.FileInfo, error) { return nil, file.Chmod(a.mode) }
