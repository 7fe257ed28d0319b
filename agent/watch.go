package agent

import (
	"context"
	"time"

	"github.com/credagent/credagent/internal/clockwatch"
	"github.com/credagent/credagent/internal/filewatch"
	"github.com/credagent/credagent/internal/logkey"
)

const (
	// clockEvery is how often the clocks are compared where the system does not report jumps: whatever
	// happened to time is noticed within ten seconds.
	clockEvery = 9 * time.Second
	// checkEvery is how often the sinks and the credential files are checked, and the clocks of a
	// system that reports jumps: each check wakes a processor up.
	checkEvery = 3 * clockEvery
	// stepped is the difference between the two clocks that is no drift any more.
	stepped = time.Second
	// alive is how old the last comparison may be before something is badly wrong.
	alive = 2*checkEvery + clockEvery
)

// clockWatch tells when the wall clock jumps.
type clockWatch interface {
	Jumps() <-chan struct{}
	Close() error
}

// watchClock opens the watch of the clock: [clockwatch.New], but for tests.
func watchClock() (clockWatch, error) { return clockwatch.New() }

// watch compares the wall clock with the monotonic one, which stands still during a suspend and
// does not follow steps. Timers run on the monotonic clock; after a difference everybody checks
// the time again. It also notices when sinks or credential files were changed.
func (a *Agent) watch(ctx context.Context) {
	every, jumps := clockEvery, (<-chan struct{})(nil)
	if clock, err := a.machine.clock(); err == nil {
		defer clock.Close()
		every, jumps = checkEvery, clock.Jumps()
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	files := newRotation()
	defer files.close()
	last := a.compareClocks(time.Now())
	a.startFileCheck(ctx, files.watcher)
	a.compareCredentials(ctx)
	for ticks := 1; ; {
		select {
		case <-ctx.Done():
			return
		case <-jumps:
			last = a.compareClocks(last)
			continue
		case <-files.events():
			files.settling.Touch()
			continue
		case err := <-files.failures():
			a.log.Warn("changes of credential files may have been missed, checking them", logkey.Error, err)
			files.settling.Touch()
			continue
		case <-files.settling.C():
			files.settling.Done()
			files.begin(a.machine.watch, a.log)
			a.startFileCheck(ctx, files.watcher)
			continue
		case <-ticker.C:
		}
		last = a.compareClocks(last)
		if ticks++; time.Duration(ticks)*every%checkEvery == 0 {
			a.checkAll(ctx, files.watcher)
		}
	}
}

func (a *Agent) compareClocks(last time.Time) time.Time {
	now := time.Now()
	a.heartbeat.Store(&now)
	a.creditSuspend(now)
	if step := timeStep(last, now); step.Abs() > stepped {
		a.log.Info("clock stepped or the machine slept, planning anew", logkey.Step, step)
		a.wakeAll()
	}
	return now
}

// creditSuspend takes the time of a suspend off what servers asked for: the clock since boot went on
// while the monotonic one stood still.
func (a *Agent) creditSuspend(now time.Time) {
	boot, known := a.machine.sinceBoot()
	if !known {
		return
	}
	before := a.bootAhead
	a.bootAhead = boot - now.Sub(a.startedAt)
	if slept := a.bootAhead - before; before != 0 && slept > stepped {
		a.log.Info("the machine was suspended", logkey.For, slept.Round(time.Second))
		a.gates.Wake(slept - stepped/10) // the two clocks were not read in the same instant
	}
}

// compareCredentials has the credentials compared with those that an earlier process used.
func (a *Agent) compareCredentials(ctx context.Context) {
	for _, compare := range a.gates.CompareCredentials() {
		a.checks.Go(func() { compare(ctx) })
	}
}

// startFileCheck proves the credentials whose files changed. A provider may take its time, so that is
// not waited for.
func (a *Agent) startFileCheck(ctx context.Context, watcher filewatch.Notifier) {
	a.checks.Go(func() { a.checkFiles(ctx, watcher) })
}

// checkFiles checks the credentials' files. The watcher, if there is one, is made to watch them.
func (a *Agent) checkFiles(ctx context.Context, watcher filewatch.Notifier) {
	watch := func([]string) {}
	if watcher != nil {
		watch = func(files []string) { filewatch.Watch(watcher, files) }
	}
	for _, prove := range a.gates.CheckCredentials(watch) {
		a.checks.Go(func() { prove(ctx) })
	}
}

// checkAll checks the credentials' files and the sinks, one after the other, as each goroutine
// more wakes up one more thread. While the file system of the ones does not answer, the others are
// checked all the same.
func (a *Agent) checkAll(ctx context.Context, watcher filewatch.Notifier) {
	a.checks.Go(func() {
		a.checkFiles(ctx, watcher)
		a.checkSinks()
	})
}

// timeStep is by how much the wall clock moved more than the monotonic clock.
func timeStep(from, to time.Time) time.Duration {
	return to.Round(0).Sub(from.Round(0)) - to.Sub(from)
}

func (a *Agent) wakeAll() {
	a.gates.Wake(0)
	for _, t := range a.parts.list().tokens {
		t.keeper.Wake()
	}
}

// mostChecks is how many checks of the sinks may be under way: each that a file system does not answer
// keeps a thread.
const mostChecks = 4

// checkSinks checks every sink. Where a file system does not answer, the next check goes on to the sinks
// after it.
func (a *Agent) checkSinks() {
	defer a.checking.Add(-1)
	if a.checking.Add(1) > mostChecks {
		return
	}
	for _, s := range a.parts.list().sinks {
		s.writer.Check()
	}
}

// Alive reports whether the agent's goroutines still get to run.
func (a *Agent) Alive() bool {
	return time.Since(*a.heartbeat.Load()) < alive
}
