// Package verifysink owns the trial of a file system: a sink is written there for a while, by the
// writer that the agent has, while readers look at it all the time.
//
// It promises to report only what was seen, and to leave nothing behind: it writes to no file that was
// there before. One caveat: it sees this host alone. What a reader on another host sees of a network
// file system, only a trial there can tell.
package verifysink

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/credagent/credagent/internal/atomicfile"
	"github.com/credagent/credagent/internal/host"
	"github.com/credagent/credagent/sink"
)

const (
	// Shortest is the least time in which there is something to be seen.
	Shortest = time.Second

	// mode has more than a new file has, so that it must be set, and fewer than a umask leaves.
	mode = 0o640

	readers         = 3
	defaultPatience = 10 * time.Second
	// enough writes, and reads, allow a verdict.
	enough = 10
)

// Options describe a trial.
type Options struct {
	Path string // a file that does not exist yet, or a directory
	For  time.Duration
	// FileSystem names what the path is on, "" for not known; on a Remote one, other hosts may write too.
	FileSystem string
	Remote     bool
	// Reader starts one more reader in a process of its own, which calls [Read] with the argument, and hands
	// its output on; it ends the process when ctx ends. nil is for none.
	Reader func(ctx context.Context, argument string) ([]byte, error)

	patience time.Duration // how long the end waits for a file system that does not answer; 0 is the default
}

// Run does the trial, until it is over or ctx ends. An error means that there was none: the path cannot
// be used, and an [fs.ErrExist] that there is a file.
func Run(ctx context.Context, o Options) (*Report, error) {
	path, err := claim(o.Path)
	if err != nil {
		return nil, err
	}
	o.Path = path
	content := &rendered{}
	file, err := sink.New(sink.Options{Path: path, Mode: mode, Renderer: content})
	if err != nil {
		return nil, errors.Join(err, remove(path))
	}
	report, err := try(ctx, o, func(next []byte) error {
		content.next = next
		_, err := file.Write(nil)
		return err
	})
	if errors.Is(err, errHangs) {
		return report, nil // a removal would hang as well; the report says what stays
	}
	return report, errors.Join(err, remove(path))
}

// rendered is what the sink is to hold next.
type rendered struct{ next []byte }

// Tokens implements [sink.Renderer].
func (r *rendered) Tokens() []string { return nil }

// Render implements [sink.Renderer].
func (r *rendered) Render(sink.Lookup) ([]byte, error) { return r.next, nil }

// claim makes the file, which must not be there yet, and returns its absolute path.
func claim(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "credagent-verify-"+newNonce())
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return "", fmt.Errorf("trying %q: %w, and nothing is overwritten\n    hint: name a directory, or a file that does not exist yet", path, fs.ErrExist)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("trying %q: its directory does not exist\n    hint: name the directory that the sink will be in; create it before, as the agent's user", path)
	case err != nil:
		return "", fmt.Errorf("trying %q: %w", path, atomicfile.Cause(err))
	}
	return path, file.Close()
}

// remove removes the file, and what a write may have left beside it.
func remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	root, opening := os.OpenRoot(filepath.Dir(path))
	if opening != nil {
		return errors.Join(err, opening)
	}
	defer root.Close()
	atomicfile.RemoveAll(root, atomicfile.LeftOvers(root)[filepath.Base(path)])
	return err
}

func newNonce() string {
	var b [8]byte
	rand.Read(b[:]) // never fails, by its contract
	return hex.EncodeToString(b[:])
}

// targetAt describes the file after its first write. The mode is what was asked for where the system
// has modes; whose the file is, the file system may decide.
func targetAt(path, nonce string) (target, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return target{}, fmt.Errorf("looking at what was just written: %w", err)
	}
	t := target{Path: path, Nonce: nonce, Mode: mode, UID: host.NoOwner}
	if runtime.GOOS == "windows" {
		t.Mode = info.Mode().Perm()
	}
	if uid, known := host.OwnerOf(info); known {
		t.UID = uid
	}
	return t, nil
}
