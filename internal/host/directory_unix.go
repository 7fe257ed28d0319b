//go:build unix

package host

import (
	"fmt"
	"io/fs"
)

// CheckDirectory refuses a directory in which others could replace a file: one that its group or
// everybody may write to without the sticky bit. The directory's owner is trusted, whoever it is.
func CheckDirectory(dir string, info fs.FileInfo) error {
	if mode := info.Mode(); mode&0o022 != 0 && mode&fs.ModeSticky == 0 {
		return fmt.Errorf("directory %q (mode %04o) can be written to by others, who could replace the file; run: chmod go-w %q",
			dir, mode.Perm(), dir)
	}
	return nil
}
