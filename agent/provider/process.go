package provider

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/credagent/credagent/internal/handshake"
	"github.com/credagent/credagent/internal/printable"
	"github.com/credagent/credagent/plugins/providerpb"
)

// limits are how long the agent waits for a process.
type limits struct {
	start time.Duration // for it to be ready
	grace time.Duration // for its answer, beyond a request's own time limit
	check time.Duration // for a check, which makes no request
}

func defaultLimits() limits {
	return limits{start: 10 * time.Second, grace: 5 * time.Second, check: 15 * time.Second}
}

// Process is a client's credential provider: started when asked, ended when idle, started afresh
// after a crash. Its methods may be called by several goroutines; calls run one after another.
type Process struct {
	spec    Spec
	host    *Host
	log     *slog.Logger
	calling chan struct{} // holds one value while a call runs; its holder owns starting

	mu      sync.Mutex
	running *running    // guarded by mu, as is idle; nil while there is no process
	idle    *time.Timer // ends an unused process
}

// Close ends the process, if there is one. A later call starts it again.
func (p *Process) Close() {
	p.mu.Lock()
	p.wake()
	p.mu.Unlock()
	p.end()
}

// call runs one question against the process, starting it if need be and binding it to where its
// request goes; all together take no longer than the limit. A process that does not answer properly is ended, so that the next call begins
// afresh.
func (p *Process) call(ctx context.Context, limit time.Duration, to *handshake.Destination, ask func(context.Context, providerpb.ProviderClient) error) error {
	select {
	case p.calling <- struct{}{}:
		defer func() { <-p.calling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r, err := p.ensure(limited)
	if err != nil {
		return broken(ctx, err)
	}
	if r, err = p.bind(limited, r, to); err != nil {
		p.end()
		return broken(ctx, err)
	}
	if err := ask(limited, r.client); err != nil {
		p.end()
		return explain(ctx, err)
	}
	p.rest()
	return nil
}

// ensure returns the running process, or starts one.
func (p *Process) ensure(ctx context.Context) (*running, error) {
	p.mu.Lock()
	p.wake()
	r := p.running
	p.mu.Unlock()
	if r != nil && !r.plugin.Exited() {
		return r, nil
	}
	p.end()
	r, err := p.host.start(ctx, p.spec, p.log)
	if p.host.options.Started != nil {
		p.host.options.Started(p.spec.Provider, err)
	}
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = r
	return r, nil
}

// bind tells the process where its requests may go. One that is bound to another server is ended and
// another one started: a process never gets another one.
func (p *Process) bind(ctx context.Context, r *running, to *handshake.Destination) (*running, error) {
	if to == nil {
		return r, nil
	}
	if !r.takes(*to) {
		p.end()
		var err error
		if r, err = p.ensure(ctx); err != nil {
			return nil, err
		}
	}
	return r, r.bind(*to)
}

// wake stops the idle timer; p.mu is held.
func (p *Process) wake() {
	if p.idle != nil {
		p.idle.Stop()
	}
}

// rest lets the process end after a while.
func (p *Process) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = time.AfterFunc(p.host.options.IdleTimeout, p.endIdle)
}

func (p *Process) endIdle() {
	select {
	case p.calling <- struct{}{}:
		defer func() { <-p.calling }()
		if p.end() {
			p.log.Debug("provider stopped, unused")
		}
	default: // a call came in the meantime
	}
}

// end ends the process and reports whether there was one.
func (p *Process) end() bool {
	p.mu.Lock()
	r := p.running
	p.running = nil
	p.mu.Unlock()
	if r == nil {
		return false
	}
	r.end()
	return true
}

// broken makes a start that went wrong a failure, unless it already is one.
func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var failure *Failure
	if errors.As(err, &failure) {
		return failure
	}
	return &Failure{Kind: KindProvider, Message: err.Error()}
}

// explain turns gRPC's view of a broken provider into words.
func explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var failure *Failure
	if errors.As(err, &failure) {
		return failure
	}
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		return &Failure{Kind: KindProvider, Message: "the provider's process did not answer in time and was ended"}
	case codes.Unavailable, codes.Canceled:
		return &Failure{Kind: KindProvider, Message: "the connection to the provider's process broke, and the process was ended"}
	}
	return &Failure{Kind: KindProvider, Message: "the provider's process answered with an error: " + printable.Text(status.Convert(err).Message(), 300)}
}
