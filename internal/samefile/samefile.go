// Package samefile reports whether two paths lead to one file, by the file's identity and not by the spelling:
// through symbolic links, hard links, bind mounts and case-insensitive file systems, and also for files that do not
// exist yet.
//
// One caveat: the answer holds only at the time of the call.
package samefile

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// ID stands for a file. Two paths with the same ID lead to the same file.
type ID struct {
	device, inode uint64 // of the file, or of the nearest existing directory above
	rest          string // the part that does not exist; "" for an existing file
}

// maxLinks limits the links that are followed, as the kernel does.
const maxLinks = 40

// Finder finds IDs. It checks only once whether a directory is case-insensitive.
type Finder struct {
	folds map[string]bool // by directory
}

// Of returns the ID of the file at an absolute path.
func (f *Finder) Of(path string) ID {
	for range maxLinks {
		if info, err := os.Stat(path); err == nil {
			return known(path, info)
		}
		path = resolved(path)
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) { // it dangles: a write would create its target
			target = filepath.Dir(path) + string(filepath.Separator) + target
		}
		path = target
	}
	return f.missing(filepath.Clean(path))
}

// resolved returns a path without links in its directory. Only then can ".." be resolved textually.
func resolved(path string) string {
	dir, name := filepath.Split(path)
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return filepath.Join(real, name)
	}
	return filepath.Clean(path)
}

func (f *Finder) missing(path string) ID {
	rest := filepath.Base(path)
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil {
			id := known(dir, info)
			id.rest = rest
			if f.foldsCase(dir) {
				id.rest = fold(rest)
			}
			return id
		}
		if dir == filepath.Dir(dir) {
			return ID{rest: path}
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}

// maxNames is how many entries of a directory are tried.
const maxNames = 64

// foldsCase reports whether a directory is case-insensitive, judged by the names in it.
func (f *Finder) foldsCase(dir string) bool {
	if folds, looked := f.folds[dir]; looked {
		return folds
	}
	if f.folds == nil {
		f.folds = map[string]bool{}
	}
	f.folds[dir] = looksFolding(dir)
	return f.folds[dir]
}

func looksFolding(dir string) bool {
	if opened, err := os.Open(dir); err == nil {
		names, _ := opened.Readdirnames(maxNames)
		opened.Close()
		for _, name := range names {
			if flipped := flip(name); flipped != name {
				return isSame(filepath.Join(dir, name), filepath.Join(dir, flipped))
			}
		}
	}
	flipped := flip(filepath.Base(dir))
	return flipped != filepath.Base(dir) && isSame(dir, filepath.Join(filepath.Dir(dir), flipped))
}

func isSame(a, b string) bool {
	first, err := os.Lstat(a)
	if err != nil {
		return false
	}
	second, err := os.Lstat(b)
	return err == nil && os.SameFile(first, second)
}

// flip changes the case of a name's first letter.
func flip(name string) string {
	for i, r := range name {
		if r < unicode.MaxASCII && unicode.IsLetter(r) {
			return name[:i] + string(r^0x20) + name[i+1:]
		}
	}
	return name
}

func fold(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// known returns the ID of an existing file.
func known(path string, info fs.FileInfo) ID {
	if device, inode, ok := numbers(info); ok {
		return ID{device: device, inode: inode}
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return ID{rest: fold(path)}
}
