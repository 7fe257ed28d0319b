package verifysink

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/credagent/credagent/internal/atomicfile"
	"github.com/credagent/credagent/internal/filewatch"
)

// errHangs means that a file system call did not return in time.
var errHangs = errors.New("the file system does not answer")

// trial is one run of a writer and its readers. Each part keeps its observations and returns them at its end, so that
// one that hangs does not affect the others.
type trial struct {
	Options
	target    target
	write     func(content []byte) error
	published *published
	over      func(writes int) // ends the trial after a write, if it was the last
}

// try runs the parts until the time is over (a little longer if a write is slow), or ctx ends.
func try(ctx context.Context, o Options, write func([]byte) error) (*Report, error) {
	t := &trial{Options: o, target: target{Path: o.Path, Nonce: newNonce()}, write: write, published: new(published)}
	begun := time.Now()
	patience := cmp.Or(o.patience, defaultPatience)
	ctx, stop := context.WithTimeout(ctx, o.For+patience)
	defer stop()
	t.over = func(writes int) {
		if time.Since(begun) >= o.For && writes >= enough {
			stop()
		}
	}
	late, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	unhang := context.AfterFunc(ctx, func() { time.AfterFunc(patience, giveUp) })
	defer unhang()

	report := &Report{Path: o.Path, FileSystem: o.FileSystem, Remote: o.Remote}
	first, answered := await(late, start(t.first))
	if !answered {
		report.Hung = append(report.Hung, "the first write")
		return report, errHangs
	}
	if first != nil {
		return nil, first
	}
	t.run(ctx, late, report)
	report.Took = time.Since(begun)
	if len(report.Hung) > 0 {
		return report, errHangs
	}
	return report, nil
}

func (t *trial) first() error {
	if err := t.write(seal(t.target.Nonce, 1)); err != nil {
		return fmt.Errorf("%w\n    hint: no sink can be written there; fix that, or put it on a tmpfs, such as /run", err)
	}
	t.published.done(1, time.Now())
	target, err := targetAt(t.Path, t.target.Nonce)
	t.target = target
	return err
}

// run runs all parts until ctx ends, and waits for them until late ends.
func (t *trial) run(ctx, late context.Context, report *Report) {
	total := make(chan int, 1)
	watching := make(chan struct{})
	notified := start(func() notices { return t.watch(watching, total) })
	await(late, watching)
	wrote := start(func() writes {
		w := t.writeUntil(ctx)
		total <- w.Done
		return w
	})
	scanned := start(func() tally { return t.scanUntil(ctx) })
	var reading []<-chan tally
	for range readers {
		reading = append(reading, start(func() tally {
			r := reader{target: t.target, published: t.published}
			r.readUntil(ctx)
			return r.tally
		}))
	}
	process := start(func() apart { return t.readApart(ctx) })

	for _, one := range reading {
		report.Seen.merge(collect(late, one, report, "a reader"))
	}
	report.Readers = readers
	report.Apart = collect(late, process, report, "the reader in a process of its own")
	if report.Apart.Err == nil && report.Apart.Seen.Looks > 0 {
		report.Readers++
		report.Seen.merge(report.Apart.Seen)
	}
	report.Scan = collect(late, scanned, report, "the listing of the directory")
	report.Writes = collect(late, wrote, report, "a write")
	report.Notices = collect(late, notified, report, "the notifications")
}

// start runs a part in its own goroutine.
func start[T any](part func() T) <-chan T {
	out := make(chan T, 1)
	go func() { out <- part() }()
	return out
}

// await waits for a part until ctx ends.
func await[T any](ctx context.Context, part <-chan T) (T, bool) {
	select {
	case seen := <-part:
		return seen, true
	case <-ctx.Done():
		var none T
		return none, false
	}
}

func collect[T any](ctx context.Context, part <-chan T, report *Report, name string) T {
	seen, answered := await(ctx, part)
	if !answered {
		report.Hung = append(report.Hung, name)
	}
	return seen
}

// writes has the writer's observations.
type writes struct {
	Done     int // including the first one
	Failed   finding
	SameTime finding // the modification time was that of the previous write
	Slowest  time.Duration
}

// writeUntil writes until ctx ends. Random pauses keep it from running in step with a reader.
func (t *trial) writeUntil(ctx context.Context) writes {
	const pause = 2 * time.Millisecond
	w := writes{Done: 1}
	before, _ := os.Lstat(t.Path)
	for number := 2; wait(ctx, rand.N(pause)); number++ {
		begun := time.Now()
		err := t.write(seal(t.target.Nonce, number))
		w.Slowest = max(w.Slowest, time.Since(begun))
		t.over(number)
		if err != nil {
			w.Failed.add("%v", err)
			wait(ctx, 5*pause)
			continue
		}
		w.Done++
		t.published.done(number, time.Now())
		after, err := os.Lstat(t.Path)
		if err != nil {
			continue // the readers see it too
		}
		if before != nil && after.ModTime().Equal(before.ModTime()) {
			w.SameTime.add("%s for writes %d and %d", after.ModTime().Format(time.RFC3339Nano), number-1, number)
		}
		before = after
	}
	return w
}

// wait reports whether the time was over before ctx was.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// scanUntil checks the temporary files in the directory: others must not be able to read those either.
func (t *trial) scanUntil(ctx context.Context) tally {
	var seen tally
	dir, prefix := filepath.Dir(t.Path), atomicfile.Prefix+filepath.Base(t.Path)+"-"
	for wait(ctx, time.Millisecond/2) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			seen.Failed.add("listing the directory: %v", atomicfile.Cause(err))
			continue
		}
		for _, entry := range entries {
			if !strings.HasPrefix(entry.Name(), prefix) {
				continue
			}
			if info, err := entry.Info(); err == nil { // otherwise it was renamed meanwhile
				seen.Looks++
				t.target.judgeWider(&seen, "its temporary file", info)
			}
		}
	}
	return seen
}

// notices has the observations of the part that waits for notifications.
type notices struct {
	Kinds  map[string]int // of the notifications about the file's name
	Told   int            // notifications of a new file
	Early  finding        // the new content was not visible yet
	Failed finding
	Late   time.Duration // the longest from a write's end to its notification
}

// watch waits for notifications as a workload does, in the directory, and reads the file at each.
func (t *trial) watch(watching chan<- struct{}, total <-chan int) notices {
	n := notices{Kinds: map[string]int{}}
	watcher, err := filewatch.New()
	if err == nil {
		defer watcher.Close()
		err = watcher.Add(filepath.Dir(t.Path))
	}
	close(watching)
	if err != nil {
		n.Failed.add("%v", atomicfile.Cause(err))
		return n
	}
	r := &reader{target: t.target}
	end := time.NewTimer(time.Hour)
	end.Stop()
	for wanted := -1; wanted < 0 || n.Told < wanted; {
		select {
		case event := <-watcher.Changes():
			if filepath.Base(event.Name) == filepath.Base(t.Path) {
				t.told(&n, r, event.Op.String())
			}
		case err := <-watcher.Failures():
			n.Failed.add("%v", err)
		case done := <-total:
			wanted = done - 1 // the first was before
			end.Reset(time.Second)
		case <-end.C:
			return n
		}
	}
	return n
}

// told records a notification about the file.
func (t *trial) told(n *notices, r *reader, kind string) {
	n.Kinds[kind]++
	if !strings.Contains(kind, "CREATE") { // a rename to this name
		return
	}
	n.Told++
	number := n.Told + 1
	if t.published.last() >= number {
		n.Late = max(n.Late, t.published.behind(number-1, time.Now()))
	}
	if got := r.look(); got > 0 && got < number {
		n.Early.add("write %d after %d notifications", got, n.Told)
	}
}

// apart has the observations of the reader in a separate process.
type apart struct {
	Seen tally
	Err  error
}

func (t *trial) readApart(ctx context.Context) apart {
	if t.Reader == nil {
		return apart{}
	}
	argument, err := json.Marshal(t.target)
	if err != nil {
		return apart{Err: err}
	}
	output, err := t.Reader(ctx, string(argument))
	var seen tally
	if json.Unmarshal(output, &seen) == nil && seen.Looks > 0 {
		return apart{Seen: seen}
	}
	if err == nil || ctx.Err() != nil {
		err = fmt.Errorf("it ended without a report of its own: %q", output[:min(len(output), 200)])
	}
	return apart{Err: err}
}

// Read is the reader in a separate process: it reads until ctx ends, and then reports.
func Read(ctx context.Context, argument string, out io.Writer) error {
	var r reader
	if err := json.Unmarshal([]byte(argument), &r.target); err != nil {
		return fmt.Errorf("reading what to look at: %w", err)
	}
	r.readUntil(ctx)
	return json.NewEncoder(out).Encode(r.tally)
}
