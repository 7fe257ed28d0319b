package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/credagent/credagent/internal/printable"
	"github.com/credagent/credagent/plugins/providerpb"
)

// limits are the agent's time limits for a process.
type limits struct {
	start time.Duration // for it to be ready
	grace time.Duration // for its answer, beyond a request's own time limit
	check time.Duration // for a check, which makes no request
	gap   time.Duration // between two starts, if the first process failed
}

func defaultLimits() limits {
	return limits{start: 10 * time.Second, grace: 5 * time.Second, check: 15 * time.Second, gap: time.Second}
}

// Process is a client's handle for its credential provider. All clients of the same provider at the same server share
// the process behind it, unless the client is suspected of having broken one. It is started on demand, ended when
// idle, and started again after a crash. Its methods may be called concurrently.
type Process struct {
	spec      Spec
	host      *Host
	variables string // process-wide settings, see settings
	place     string // substitute for the server while it is unknown

	server  string    // where its requests go; "" while unknown; guarded by the pool's lock, as are all that follow
	suspect *incident // what it is suspected of; nil for none
	until   time.Time // when the suspicion ends
}

// Close releases the process, which ends if no other client uses it. A later call starts it again.
func (p *Process) Close() { p.host.pool.forget(p) }

// call makes one call to a process, which is started if necessary and bound to the request's destination. Once it is
// its turn, everything together takes no longer than limit.
func (p *Process) call(ctx context.Context, limit time.Duration, w want, ask func(context.Context, providerpb.ProviderClient) error) error {
	for {
		in, err := p.host.pool.join(ctx, p, w)
		if err != nil {
			return err
		}
		if asked, err := p.attempt(ctx, in, limit, w, ask); asked {
			return err
		}
	}
}

// attempt is a call to one process. It reports false if the process has ended or does not accept the call; then
// nothing was sent to it.
func (p *Process) attempt(ctx context.Context, in *instance, limit time.Duration, w want, ask func(context.Context, providerpb.ProviderClient) error) (asked bool, err error) {
	pool := p.host.pool
	defer pool.leave(in, p)
	select {
	case in.turns <- struct{}{}:
		defer func() { <-in.turns }()
	case <-ctx.Done():
		return true, ctx.Err()
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-in.ready:
	case <-limited.Done():
		return true, broken(ctx, fmt.Errorf("starting provider %q: its process was not ready in time", p.spec.Provider))
	}
	if in.err != nil {
		return true, broken(ctx, in.err)
	}
	if !pool.begin(in, p, w) {
		return false, nil
	}
	defer pool.done(in, p)
	if err = in.running.bind(w.to); err == nil {
		err = ask(limited, in.running.client)
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, errFull):
		pool.full(in)
		return false, nil
	}
	if ctx.Err() == nil {
		pool.failed(in, p, err)
	}
	return true, explain(ctx, err)
}

// broken turns a failed start into a Failure, unless it already is one.
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

// explain turns gRPC's error for a broken provider into plain words.
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
