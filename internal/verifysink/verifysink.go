// Package verifysink tests a file system: the agent's own writer writes a sink there for a while, and readers keep
// reading it.
//
// It promises to report only what it has observed, and to leave nothing behind: it writes to no existing file. One
// caveat: it covers only this host. On a network file system, a reader on another host needs a trial there.
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
	// Shortest is the shortest time with enough observations.
	Shortest = time.Second

	// mode has more bits than a new file, so that it must be set, and fewer than a umask leaves.
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
	// FileSystem names the path's file system, "" if unknown; a Remote one may be written by other hosts too.
	FileSystem string
	Remote     bool
	// Reader starts one more reader in a separate process, which calls [Read] with the argument, and returns its
	// output; it ends the process when ctx ends. nil means none.
	Reader func(ctx context.Context, argument string) ([]byte, error)

	patience time.Duration // how long the end waits for a file system that does not answer; 0 is the default
}

// Run runs the trial, until it is over or ctx ends. An error means that there was no trial because the path cannot be
// used; [fs.ErrExist] means that the file exists.
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
		return report, nil // a removal would hang too; the report names what stays
	}
	return report, errors.Join(err, remove(path))
}

// rendered is the sink's next content.
type rendered struct{ next []byte }

// Tokens implements [sink.Renderer].
func (r *rendered) Tokens() []string { return nil }

// Render implements [sink.Renderer].
func (r *rendered) Render(sink.Lookup) ([]byte, error) { return r.next, nil }

// claim creates the file, which must not exist, and returns its absolute path.
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

// remove removes the file and leftover temporary files.
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

// targetAt describes the file after its first write. The mode is the requested one if the system has modes; the file
// system may decide the owner.
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
