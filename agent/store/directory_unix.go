//go:build unix

package store

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/credagent/credagent/internal/host"
)

// checkDirectory refuses a directory that users other than the agent's can enter.
func checkDirectory(dir string, info fs.FileInfo) error {
	if uid, known := host.OwnerOf(info); known && uid != os.Geteuid() {
		return fmt.Errorf("it belongs to uid %d, but the agent runs as uid %d; run: chown %d %q", uid, os.Geteuid(), os.Geteuid(), dir)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("its mode %04o lets others in; run: chmod 700 %q (for a systemd unit, StateDirectoryMode=0700)", mode, dir)
	}
	return nil
}

// checkKeyFile refuses a key that others can read, or could have chosen.
func checkKeyFile(file string, info fs.FileInfo) error {
	if owner, known := host.OwnerOf(info); known && owner != 0 && owner != os.Geteuid() {
		return fmt.Errorf("it belongs to uid %d, neither root nor the agent's user (uid %d); make a new one, as its owner knows this one: (umask 077; credagent keygen > NEW)", owner, os.Geteuid())
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return fmt.Errorf("its mode %04o is too wide for a key; run: chmod g-w,o-rwx %q", mode, file)
	}
	return nil
}
