package agent

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/store"
)

// Memory is where the agent keeps what must outlive its process. It may block as long as its file
// system does.
type Memory interface {
	LoadAll() (map[string]store.Record, []error)
	Save(name string, r store.Record) error
	Remove(name string) error
}

// noteTime is how long a request waits for being noted before it is sent. A state directory that
// does not answer must not cost a workload its token.
const noteTime = 2 * time.Second

// recorder saves one token's newest record, away from who decides about the token. Its goroutine
// runs only while there is something to save.
type recorder struct {
	name   string
	memory Memory
	logger *slog.Logger

	mu       sync.Mutex
	newest   *store.Record // guarded by mu, as is all that follows; nil once saved
	dirty    bool          // newest is not being saved
	tried    []chan struct{}
	running  bool
	stopped  bool
	failures int
	timer    *time.Timer
	idle     chan struct{} // closes when it runs no more; nil while it does not
}

// newRecorder makes a recorder; nil where nothing is remembered.
func newRecorder(name string, memory Memory, log *slog.Logger) *recorder {
	if memory == nil {
		return nil
	}
	return &recorder{name: name, memory: memory, logger: log}
}

func (r *recorder) log() *slog.Logger { return r.logger.With(keyToken, r.name) }

// record saves what is newest. The channel closes when that was tried.
func (r *recorder) record(newest store.Record) (tried <-chan struct{}) {
	done := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.newest, r.dirty, r.tried = &newest, true, append(r.tried, done)
	r.start()
	return done
}

// start makes the goroutine run; r.mu is held.
func (r *recorder) start() {
	if !r.running {
		r.running, r.idle = true, make(chan struct{})
		go r.run()
	}
}

func (r *recorder) run() {
	for {
		newest, tried, more := r.next()
		if !more {
			return
		}
		err := r.memory.Save(r.name, *newest)
		for _, done := range tried {
			close(done)
		}
		r.settle(err)
	}
}

func (r *recorder) next() (newest *store.Record, tried []chan struct{}, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.dirty || r.timer != nil && r.tried == nil {
		r.running = false
		close(r.idle)
		r.idle = nil
		return nil, nil, false
	}
	newest, tried = r.newest, r.tried
	r.dirty, r.tried = false, nil
	return newest, tried, true
}

// settle makes sure that what could not be saved is tried again.
func (r *recorder) settle(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	if err == nil {
		r.failures = 0
		if !r.dirty {
			r.newest = nil
		}
		return
	}
	r.failures++
	wait := policy.SinkRetry(r.failures, rand.Float64())
	if policy.Tell(r.failures) {
		r.log().Warn("saving state failed, a restart would not know the newest token", keyError, err, keyRetryIn, wait.Round(time.Millisecond), keyAttempt, r.failures)
	}
	if r.stopped {
		r.dirty = false
		return
	}
	r.dirty = true
	r.timer = time.AfterFunc(wait, r.again)
}

func (r *recorder) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer = nil
	if r.dirty && !r.stopped {
		r.start()
	}
}

// stop ends retries and waits, within ctx, for what is being saved.
func (r *recorder) stop(ctx context.Context) {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.stopped = true
	if r.timer != nil {
		r.timer.Stop()
	}
	idle := r.idle
	r.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
		r.log().Warn("stopping although the state directory does not answer")
	}
}
