package agent

import (
	"context"
	"time"

	"github.com/credagent/credagent/internal/clockwatch"
	"github.com/credagent/credagent/internal/filewatch"
	"github.com/credagent/credagent/internal/logkey"
)

const (
	// lookEvery is how often the clocks are compared where the system does not tell when one jumps:
	// whatever happened to time is noticed within ten seconds.
	lookEvery = 9 * time.Second
	// checkEvery is how often the sinks and the credential files are looked at, and the clocks of a
	// system that tells: each look wakes a processor up.
	checkEvery = 3 * lookEvery
	// stepped is the difference between the two clocks that is no drift any more.
	stepped = time.Second
	// alive is how old the last look may be before something is badly wrong.
	alive = 2*checkEvery + lookEvery
)

// clockWatch tells when the wall clock jumps.
type clockWatch interface {
	Jumps() <-chan struct{}
	Close() error
}

// watchClock opens the watch of the clock: [clockwatch.New], but for tests.
func watchClock() (clockWatch, error) { return clockwatch.New() }

// watch compares the wall clock with the monotonic one, which stands still during a suspend and
// does not follow steps. Timers run on the monotonic clock; after a difference everybody looks at
// the time again. It also notices when sinks or credential files were changed.
func (a *Agent) watch(ctx context.Context) {
	every, jumps := lookEvery, (<-chan struct{})(nil)
	if clock, err := a.machine.clock(); err == nil {
		defer clock.Close()
		every, jumps = checkEvery, clock.Jumps()
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	files := newRotation()
	defer files.close()
	last := a.lookAtClocks(time.Now())
	a.lookAtFiles(ctx, files)
	for _, c := range a.parts.Load().clients {
		a.looks.Go(func() { c.CompareCredential(ctx) })
	}
	for looks := 1; ; {
		select {
		case <-ctx.Done():
			return
		case <-jumps:
			last = a.lookAtClocks(last)
			continue
		case <-files.events():
			files.settling.Touch()
			continue
		case err := <-files.failures():
			a.log.Warn("changes of credential files may have been missed, looking at them", logkey.Error, err)
			files.settling.Touch()
			continue
		case <-files.settling.C():
			files.settling.Done()
			files.begin(a.machine.watch, a.log)
			a.lookAtFiles(ctx, files)
			continue
		case <-ticker.C:
		}
		last = a.lookAtClocks(last)
		for _, c := range a.parts.Load().clients {
			c.WarnOfExpiry(last)
		}
		if looks++; time.Duration(looks)*every%checkEvery == 0 {
			a.lookAround(ctx, files)
		}
	}
}

func (a *Agent) lookAtClocks(last time.Time) time.Time {
	now := time.Now()
	a.heartbeat.Store(&now)
	if step := timeStep(last, now); step.Abs() > stepped {
		a.log.Info("clock stepped or the machine slept, looking at the time again", logkey.Step, step)
		a.wakeAll()
	}
	return now
}

// lookAtFiles proves the credentials whose files changed. A provider may take its time, so that is
// not waited for.
func (a *Agent) lookAtFiles(ctx context.Context, files *rotation) {
	if files.looking.CompareAndSwap(false, true) { // else the file system does not answer
		watcher := files.watcher
		a.looks.Go(func() { a.look(ctx, files, watcher) })
	}
}

// look looks at the credentials' files; who calls it has said that it is looking.
func (a *Agent) look(ctx context.Context, files *rotation, watcher filewatch.Notifier) {
	defer files.looking.Store(false)
	for _, prove := range look(watcher, a.parts.Load().clients) {
		a.looks.Go(func() { prove(ctx) })
	}
}

// lookAround looks at the credentials' files and at the sinks, one after the other, as each goroutine
// more wakes up one more thread. While the file system of the ones does not answer, the others are
// looked at all the same.
func (a *Agent) lookAround(ctx context.Context, files *rotation) {
	look := func() {}
	if files.looking.CompareAndSwap(false, true) {
		watcher := files.watcher
		look = func() { a.look(ctx, files, watcher) }
	}
	a.looks.Go(func() {
		look()
		a.checkSinks()
	})
}

// timeStep is by how much the wall clock moved more than the monotonic clock.
func timeStep(from, to time.Time) time.Duration {
	return to.Round(0).Sub(from.Round(0)) - to.Sub(from)
}

func (a *Agent) wakeAll() {
	p := a.parts.Load()
	for _, g := range a.gates.All() {
		g.Wake()
	}
	for _, k := range p.keepers {
		k.Wake()
	}
}

// mostChecks is how many looks at the sinks may be under way: each that a file system does not answer
// keeps a thread.
const mostChecks = 4

// checkSinks looks at every sink. Where a file system does not answer, the next look goes on to the sinks
// after it.
func (a *Agent) checkSinks() {
	defer a.checks.Add(-1)
	if a.checks.Add(1) > mostChecks {
		return
	}
	for _, w := range a.parts.Load().writers {
		w.Check()
	}
}

// Alive reports whether the agent's goroutines still get to run.
func (a *Agent) Alive() bool {
	return time.Since(*a.heartbeat.Load()) < alive
}
