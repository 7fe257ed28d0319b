// Package lockfile finds out whether another process does the same work, and which.
//
// The kernel holds a lock and releases it when its process ends, however it ends, so there is nothing to clean up.
// Locks belong to the process: it does not exclude itself, and programs that it starts do not inherit them. One
// caveat: a process in another container may hold a lock and have no process id here.
package lockfile

import (
	"fmt"
	"hash/fnv"
	"os"
	"sync"
)

// HeldError means that another process holds a lock.
type HeldError struct {
	PID int // 0 or less if it has no id here, as in another container
}

// Error implements error.
func (e *HeldError) Error() string {
	if e.PID <= 0 {
		return "another credagent uses it, whose process is not known here: it may be in another container"
	}
	return fmt.Sprintf("another credagent uses it, process %d", e.PID)
}

// File is a lock file. It holds any number of named locks with one descriptor.
type File struct {
	file *os.File

	mu   sync.Mutex
	held map[int64]int // how often each is held; guarded by mu
}

// New returns a lock file for an open file. While it is in use, the process must not open the same file again:
// closing it would release the locks (POSIX, fcntl).
func New(file *os.File) *File { return &File{file: file, held: map[int64]int{}} }

// Lock takes the lock of a name. If another process holds it, the error is a [*HeldError].
func (f *File) Lock(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := offset(name)
	if f.held[at] == 0 {
		if err := lockByte(f.file, at); err != nil {
			return err
		}
	}
	f.held[at]++
	return nil
}

// Unlock releases the lock of a name.
func (f *File) Unlock(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := offset(name)
	if f.held[at] == 0 {
		return // the file system has no locks, so it was never taken
	}
	if f.held[at]--; f.held[at] == 0 {
		delete(f.held, at)
		unlockByte(f.file, at)
	}
}

// Close releases every lock.
func (f *File) Close() error { return f.file.Close() }

// offset is the byte that stands for a name; the file need not be that long.
func offset(name string) int64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return int64(h.Sum64() >> 2) // an offset is signed, and the byte after it must be one too
}
