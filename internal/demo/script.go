package demo

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/credagent/credagent/agent/status"
	"github.com/credagent/credagent/internal/devserver"
)

const (
	// spacious is the shortest demo in which the certificate is rotated after the throttling; in shorter ones it is
	// rotated meanwhile.
	spacious = 25 * time.Second
	// roomy is the shortest demo with time for an outage of both clients.
	roomy = 40 * time.Second
	// calmFor is how long no request may be planned when a certificate is removed at the server, because a request
	// under way would still be signed with it.
	calmFor = time.Second
	// pollEvery is the time between two checks of the agent's status.
	pollEvery = 50 * time.Millisecond
)

// step is a part of the script. It returns once its event has been observed.
type step func(ctx context.Context) error

// perform plays the script. It returns when the time is up and every step is done, or when the overtime is over too:
// the verdict lists what has not been shown by then.
func (s *stage) perform(outer context.Context) error {
	limited, stop := context.WithTimeout(outer, s.length+overtime)
	defer stop()
	ctx, fail := context.WithCancelCause(limited)
	defer fail(nil)
	start := time.Now()
	tracks := append(s.tracks(start), []step{s.until(start.Add(s.length))})
	var playing sync.WaitGroup
	for _, track := range tracks {
		playing.Go(func() {
			if err := play(ctx, track); err != nil {
				fail(err)
			}
		})
	}
	playing.Wait()
	if cause := context.Cause(ctx); limited.Err() == nil {
		return cause
	}
	return nil
}

func play(ctx context.Context, track []step) error {
	for _, do := range track {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// tracks are the scripts, one for each client, because no client waits for another.
func (s *stage) tracks(start time.Time) [][]step {
	at := func(percent int) step { return s.until(start.Add(s.length * time.Duration(percent) / 100)) }
	if s.length < spacious {
		return [][]step{
			{s.issued(certClient), at(4), s.throttled(certClient), s.rotated, s.renewed, s.delivered(certClient)},
			{s.issued(secretClient), at(4), s.outage(secretClient), s.issued(secretClient), s.delivered(secretClient)},
		}
	}
	steps := []step{s.issued(certClient), at(15), s.throttled(certClient), s.issued(certClient)}
	if s.length >= roomy {
		steps = append(steps, at(40), s.outage(certClient), s.issued(certClient))
	}
	return [][]step{
		append(steps, at(65), s.rotated, s.renewed, s.delivered(certClient)),
		{s.issued(secretClient), at(40), s.outage(secretClient), s.issued(secretClient), s.delivered(secretClient)},
	}
}

// until waits for an instant.
func (s *stage) until(at time.Time) step {
	return func(ctx context.Context) error { return sleep(ctx, time.Until(at)) }
}

func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// issued waits until the client's last request brought a token.
func (s *stage) issued(client string) step {
	return func(ctx context.Context) error {
		return s.await(ctx, client, func(last devserver.Request) bool { return isIssued(last) })
	}
}

// throttled makes the server refuse the client's next request for a while.
func (s *stage) throttled(client string) step {
	seconds := strconv.Itoa(int(retryAfter / time.Second))
	return func(ctx context.Context) error {
		s.show.say("demo", fmt.Sprintf("the server will answer the next request of client %s with 429, Retry-After: %s", client, seconds))
		return s.befall(ctx, devserver.Fault{Kind: devserver.Throttle, RetryAfter: seconds, Count: 1, Client: client})
	}
}

// outage makes the server fail the client's next request.
func (s *stage) outage(client string) step {
	return func(ctx context.Context) error {
		s.show.say("demo", fmt.Sprintf("the server will answer the next request of client %s with 503", client))
		return s.befall(ctx, devserver.Fault{Kind: devserver.Outage, Count: 1, Client: client})
	}
}

// befall injects a fault and waits until a request meets it.
func (s *stage) befall(ctx context.Context, fault devserver.Fault) error {
	if err := s.server.Inject(fault); err != nil {
		return err
	}
	return s.await(ctx, fault.Client, func(last devserver.Request) bool { return last.Fault != "" })
}

// rotated replaces the certificate while no request is under way.
func (s *stage) rotated(ctx context.Context) error {
	if err := poll(ctx, func() bool { return calm(s.agent.Status(), certClient) }); err != nil {
		return err
	}
	if err := s.world.rotate(s.server); err != nil {
		return err
	}
	s.show.say("demo", fmt.Sprintf("the certificate in %s was replaced; the server no longer accepts the old one", certFile))
	return nil
}

// renewed waits until the new certificate was used with success.
func (s *stage) renewed(ctx context.Context) error {
	return s.await(ctx, certClient, func(last devserver.Request) bool {
		return isIssued(last) && last.KeyID == s.world.rotated
	})
}

// delivered waits until the client's last token is in the files. The server knows of it first.
func (s *stage) delivered(client string) step {
	return func(ctx context.Context) error {
		last, _ := lastOf(s.server.Requests(), client)
		return poll(ctx, func() bool { return caughtUp(s.agent.Status(), client, last.At) })
	}
}

// caughtUp reports whether the client's tokens are as new as an instant, and in their files.
func caughtUp(s status.Status, client string, at time.Time) bool {
	for _, t := range s.Tokens {
		if t.Client != client {
			continue
		}
		if instant(t.AcquiredAt).Before(at.Round(0)) {
			return false
		}
		for _, k := range s.Sinks {
			if slices.Contains(k.Tokens, t.Name) && !k.Holds {
				return false
			}
		}
	}
	return true
}

// poll checks the agent's status repeatedly until so returns true.
func poll(ctx context.Context, so func() bool) error {
	for !so() {
		if err := sleep(ctx, pollEvery); err != nil {
			return err
		}
	}
	return nil
}

// await waits until the client's last request is right.
func (s *stage) await(ctx context.Context, client string, right func(devserver.Request) bool) error {
	for {
		requests := s.server.Requests()
		last, ok := lastOf(requests, client)
		if ok && right(last) {
			return nil
		}
		if err := s.server.Wait(ctx, len(requests)+1); err != nil {
			return err
		}
	}
}

func lastOf(requests []devserver.Request, client string) (devserver.Request, bool) {
	for _, r := range slices.Backward(requests) {
		if r.Client == client {
			return r, true
		}
	}
	return devserver.Request{}, false
}

func isIssued(r devserver.Request) bool { return r.Outcome == "issued" }

// calm reports whether no request of the client is due for a while.
func calm(s status.Status, client string) bool {
	for _, t := range s.Tokens {
		if t.Client == client && nextRequest(s, t).Sub(s.Now) < calmFor {
			return false
		}
	}
	return true
}

// nextRequest returns when a token's next request can be sent: as planned, or when its client's gate
// opens if that is later.
func nextRequest(s status.Status, t status.Token) time.Time {
	next := instant(t.RefreshAt)
	for _, until := range []time.Time{instant(gateOf(s, t.Client).BlockedUntil), instant(gateOf(s, t.Client).RetryAt)} {
		if until.After(next) {
			next = until
		}
	}
	return next
}

func gateOf(s status.Status, client string) status.Gate {
	for _, c := range s.Clients {
		if c.Name == client {
			return c.Gate
		}
	}
	return status.Gate{}
}

func instant(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
