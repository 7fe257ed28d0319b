package keeper

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/credagent/credagent/agent/policy"
	"github.com/credagent/credagent/agent/store"
	"github.com/credagent/credagent/internal/logkey"
	"github.com/credagent/credagent/internal/worker"
)

// recorder saves one token's newest record, away from who decides about the token.
type recorder struct {
	name   string
	save   func(name string, r store.Record) error
	logger *slog.Logger
	work   *worker.Worker

	newest   *store.Record // owned by the worker, as is all that follows; nil once saved
	tried    []chan struct{}
	failures int
}

// newRecorder makes a recorder; nil where nothing is remembered.
func newRecorder(name string, save func(string, store.Record) error, log *slog.Logger) *recorder {
	if save == nil {
		return nil
	}
	r := &recorder{name: name, save: save, logger: log}
	r.work = worker.New(r.step)
	r.work.Start()
	return r
}

func (r *recorder) log() *slog.Logger { return r.logger.With(logkey.Token, r.name) }

// record saves what is newest. The channel closes when that was tried.
func (r *recorder) record(newest store.Record) (tried <-chan struct{}) {
	done := make(chan struct{})
	runs := r.work.Post(func() {
		r.newest = &newest
		r.tried = append(r.tried, done)
	})
	if !runs { // the gate sees a request through that it had begun before the stop
		go func() {
			r.work.Drain()
			r.step()
		}()
	}
	return done
}

func (r *recorder) step() {
	if r.newest == nil {
		return
	}
	err := r.save(r.name, *r.newest)
	for _, done := range r.tried {
		close(done)
	}
	r.tried = nil
	if err == nil {
		r.newest, r.failures = nil, 0
		return
	}
	r.failures++
	wait := policy.SinkRetry(r.failures, rand.Float64())
	if policy.ShouldLog(r.failures) {
		r.log().Warn("saving state failed, a restart would not know the newest token", logkey.Error, err, logkey.RetryIn, wait.Round(time.Millisecond), logkey.Attempt, r.failures)
	}
	r.work.Retry(wait)
}

// stop ends retries and waits, within ctx, for what is being saved.
func (r *recorder) stop(ctx context.Context) {
	if r != nil && !r.work.Stop(ctx) && r.work.Busy() {
		r.log().Warn("stopping although the state directory does not answer")
	}
}
