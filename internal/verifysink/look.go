package verifysink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/credagent/credagent/internal/atomicfile"
	"github.com/credagent/credagent/internal/host"
)

// target describes the expected file.
type target struct {
	Path  string      `json:"path"`
	Nonce string      `json:"nonce"`
	Mode  fs.FileMode `json:"mode"`
	UID   int         `json:"uid"` // host.NoOwner if there are no owners
}

// tally is what readers have observed.
type tally struct {
	Looks   int           `json:"looks"`
	Torn    finding       `json:"torn"`
	Empty   finding       `json:"empty"`
	Missing finding       `json:"missing"`
	Failed  finding       `json:"failed"`
	Wide    finding       `json:"wide"`   // more users may access it than configured, or another owns it
	Narrow  finding       `json:"narrow"` // fewer users may access it
	Back    finding       `json:"back"`   // an older content after a newer one
	Stale   finding       `json:"stale"`  // an older content after the next write was done
	Late    time.Duration `json:"late"`   // the longest of those
	Slowest time.Duration `json:"slowest"`
}

// finding counts an observation, and keeps the first one.
type finding struct {
	Count int    `json:"count"`
	First string `json:"first"`
}

func (f *finding) add(format string, args ...any) {
	if f.Count++; f.Count == 1 {
		f.First = fmt.Sprintf(format, args...)
	}
}

func (f *finding) merge(o finding) {
	if f.Count == 0 {
		f.First = o.First
	}
	f.Count += o.Count
}

func (t *tally) merge(o tally) {
	t.Looks += o.Looks
	t.Torn.merge(o.Torn)
	t.Empty.merge(o.Empty)
	t.Missing.merge(o.Missing)
	t.Failed.merge(o.Failed)
	t.Wide.merge(o.Wide)
	t.Narrow.merge(o.Narrow)
	t.Back.merge(o.Back)
	t.Stale.merge(o.Stale)
	t.Late, t.Slowest = max(t.Late, o.Late), max(t.Slowest, o.Slowest)
}

// reader opens the file again for each read, as a workload should.
type reader struct {
	target
	published *published // nil if unknown
	tally     tally
	newest    int
}

// readUntil reads repeatedly until ctx ends.
func (r *reader) readUntil(ctx context.Context) {
	for ctx.Err() == nil {
		r.look()
	}
}

// look reads the file once and returns the number of the write in it, 0 for none.
func (r *reader) look() int {
	due := 0
	if r.published != nil {
		due = r.published.last()
	}
	opened := time.Now()
	content, info, err := readAnew(r.Path)
	r.tally.Looks++
	r.tally.Slowest = max(r.tally.Slowest, time.Since(opened))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.tally.Missing.add("nothing at the path")
		return 0
	case err != nil:
		r.tally.Failed.add("%v", atomicfile.Cause(err))
		return 0
	}
	r.judgeAccess(&r.tally, "the file", info)
	number, whole := unseal(r.Nonce, content)
	switch {
	case len(content) == 0:
		r.tally.Empty.add("0 bytes")
		return 0
	case !whole:
		r.tally.Torn.add("%d bytes that match no write", len(content))
		return 0
	}
	if number < r.newest {
		r.tally.Back.add("write %d after write %d", number, r.newest)
	}
	r.newest = max(r.newest, number)
	if number < due {
		late := r.published.behind(number, opened)
		r.tally.Stale.add("write %d, %v after write %d was done", number, late, number+1)
		r.tally.Late = max(r.tally.Late, late)
	}
	return number
}

// judgeAccess compares the access to the file with the configured access.
func (t target) judgeAccess(into *tally, what string, info fs.FileInfo) {
	t.judgeWider(into, what, info)
	if perm := info.Mode().Perm(); perm != t.Mode && perm&^t.Mode == 0 {
		into.Narrow.add("%s has mode %04o, configured is %04o", what, perm, t.Mode)
	}
}

// judgeWider finds users who may access a file and should not.
func (t target) judgeWider(into *tally, what string, info fs.FileInfo) {
	if perm := info.Mode().Perm(); perm&^t.Mode != 0 {
		into.Wide.add("%s has mode %04o, configured is %04o", what, perm, t.Mode)
	}
	if uid, known := host.OwnerOf(info); known && t.UID != host.NoOwner && uid != t.UID {
		into.Wide.add("%s belongs to uid %d, not to %d", what, uid, t.UID)
	}
}

func readAnew(path string) ([]byte, fs.FileInfo, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	content, err := io.ReadAll(io.LimitReader(file, maxContent))
	return content, info, err
}
