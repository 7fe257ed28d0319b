package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/credagent/credagent/internal/process"
)

// prefix starts the file name of every external provider.
const prefix = "credagent-provider-"

// finder finds the executables that are providers.
type finder struct {
	dirs    []string
	sha256  map[string]string
	builtin []string
}

// names returns every provider there is, built-in ones first, each once.
func (f finder) names() []string {
	names := slices.Clone(f.builtin)
	for _, dir := range f.dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // a missing directory contains no providers
		}
		for _, entry := range entries {
			name, ok := strings.CutPrefix(entry.Name(), prefix)
			if ok && name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// locate returns the executable of a provider, after checking that nobody else can change it.
func (f finder) locate(name string) (string, error) {
	if slices.Contains(f.builtin, name) {
		return process.Self()
	}
	if name != filepath.Base(name) {
		return "", fmt.Errorf("provider %q: a name holds no path separator", name)
	}
	for _, dir := range f.dirs {
		path := filepath.Join(dir, prefix+name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue // a directory without it need not be trusted
		}
		path, err := follow(path)
		if err != nil {
			return "", fmt.Errorf("finding provider %q: %w", name, err)
		}
		return path, trusted(path)
	}
	return "", fmt.Errorf("finding provider %q: no %s%s in %s; known are %s",
		name, prefix, name, strings.Join(f.dirs, ", "), strings.Join(f.names(), ", "))
}

// follow returns the file that a path leads to. A user who can change a link in the path chooses what runs, so every
// directory in it must be trusted.
func follow(path string) (string, error) {
	const most = 40 // links, as in Linux
	for range most {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", fmt.Errorf("looking at provider %q: %w", path, err)
		}
		if err := trustedDir(dir); err != nil {
			return "", err
		}
		path = filepath.Join(dir, filepath.Base(path))
		info, err := os.Lstat(path)
		if err != nil {
			return "", fmt.Errorf("looking at provider %q: %w", path, err)
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			return path, nil
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", fmt.Errorf("looking at provider %q: %w", path, err)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		path = target
	}
	return "", fmt.Errorf("looking at provider %q: its links lead in a circle", path)
}

// trusted refuses an executable that a user other than root and the agent's user could replace.
func trusted(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("looking at provider %q: %w", path, err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("refusing provider %q: it is not an executable file", path)
	}
	if err := onlyOwnerWrites(path, info); err != nil {
		return err
	}
	return trustedAbove(path)
}

// trustedDir refuses a directory of providers in which another user could place one, even as a link to a trusted
// executable that is not meant to be a provider. Its path contains no link.
func trustedDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("looking at %q: %w", dir, err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return othersWrite(dir)
	}
	return trustedAbove(filepath.Join(dir, prefix))
}

// trustedAbove checks every directory above a path.
func trustedAbove(path string) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Lstat(dir)
		if err != nil {
			return fmt.Errorf("looking at %q: %w", dir, err)
		}
		if err := onlyOwnerWrites(dir, info); err != nil {
			return err
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func onlyOwnerWrites(path string, info fs.FileInfo) error {
	sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0
	if info.Mode().Perm()&0o022 != 0 && !sticky {
		return othersWrite(path)
	}
	if owner, ok := ownerOf(info); ok && owner != 0 && owner != os.Geteuid() {
		return fmt.Errorf("refusing provider in %q: it belongs to uid %d, neither root nor the agent's user", path, owner)
	}
	return nil
}

func othersWrite(path string) error {
	return fmt.Errorf("refusing provider in %q: others may write to it; run: chmod go-w %s", path, path)
}
