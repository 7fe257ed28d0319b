package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// readEvery is the time between two reads: far shorter than any write.
const readEvery = 2 * time.Millisecond

// reader is the legacy workload: it reads a token from a file again and again, and asks the
// server about each.
type reader struct {
	path  string
	valid func(token string) bool
	say   func(text string)

	mu    sync.Mutex
	known reading           // guarded by mu
	last  [sha256.Size]byte // guarded by mu: of the content
}

// reading is what a reader has seen.
type reading struct {
	reads    int
	bad      int    // empty, missing, torn or expired
	firstBad string // what was wrong with the first of them
	tokens   int    // different ones
}

func newReader(path string, valid func(string) bool, say func(string)) *reader {
	return &reader{path: path, valid: valid, say: say}
}

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) {
	ticker := time.NewTicker(readEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, line := range r.read() {
				r.say(line)
			}
		}
	}
}

// read reads once and returns what to report. The time before the first token does not count.
func (r *reader) read() []string {
	data, err := os.ReadFile(r.path)
	wrong := r.wrong(data, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(err, fs.ErrNotExist) && r.known.reads == 0 {
		return nil
	}
	r.known.reads++
	if wrong != "" {
		return r.complain(wrong)
	}
	if sum := sha256.Sum256(data); sum != r.last {
		r.last = sum
		r.known.tokens++
		return []string{fmt.Sprintf("file %s holds #%d, which the server accepts", filepath.Base(r.path), r.known.tokens)}
	}
	return nil
}

func (r *reader) wrong(data []byte, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case len(data) == 0:
		return "it is empty"
	case !r.valid(string(data)):
		return errNotAccepted.Error()
	}
	return ""
}

func (r *reader) complain(wrong string) []string {
	r.known.bad++
	if r.known.bad > 1 {
		return nil
	}
	r.known.firstBad = wrong
	return []string{fmt.Sprintf("file %s is bad: %s", filepath.Base(r.path), wrong)}
}

// report returns what was seen so far.
func (r *reader) report() reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known
}
